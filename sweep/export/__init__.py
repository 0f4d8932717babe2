"""A cell's best trial as a folder that stock libraries load."""

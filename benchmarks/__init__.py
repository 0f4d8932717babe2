"""The stock recipe and this project on the same trials, timed side by side."""

"""A sweep, killed again and again at random moments, must end with the table of one left alone."""

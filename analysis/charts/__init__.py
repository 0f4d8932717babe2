"""Charts: pure functions, a frame in, an Altair chart out."""

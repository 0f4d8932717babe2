"""Models: what a path stands for, what speaks against it, and the model in memory."""

"""What is known before the first second of training."""

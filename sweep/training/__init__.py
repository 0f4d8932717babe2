"""Training: one trial, an epoch at a time, by whichever engine."""

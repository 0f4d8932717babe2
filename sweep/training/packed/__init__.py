"""Many trials on one base model."""

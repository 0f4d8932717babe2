"""What a run shows while it is planned and while it goes on."""

"""What the commands share: options, and the report as a run's last step."""

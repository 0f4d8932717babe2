"""The configuration: YAML and overrides in, a checked ``Config`` or one sentence out."""

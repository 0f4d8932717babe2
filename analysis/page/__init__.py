"""The report's page: one HTML file, everything escaped, nothing fetched."""

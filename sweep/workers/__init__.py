"""The actors of Ray that train trials."""

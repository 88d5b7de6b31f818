"""The BigQuery stand-in, which runs in its own Python environment."""

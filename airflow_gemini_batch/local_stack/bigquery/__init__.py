"""The BigQuery stand-in, which runs in an environment of its own."""

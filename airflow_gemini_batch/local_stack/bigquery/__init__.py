"""The BigQuery emulator, which runs in its own Python environment."""

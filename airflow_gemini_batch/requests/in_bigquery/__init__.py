"""Building and checking requests inside BigQuery."""

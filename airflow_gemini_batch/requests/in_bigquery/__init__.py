"""Building and checking requests inside BigQuery, so that no row passes through the worker."""

"""One edge to Google Cloud: URIs, table names, BigQuery jobs that run once, SQL files."""

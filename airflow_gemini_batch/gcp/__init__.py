"""Google Cloud: Cloud Storage URIs, BigQuery table names, idempotent BigQuery jobs, SQL templates."""

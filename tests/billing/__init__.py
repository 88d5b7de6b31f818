"""What BigQuery bills for landing a job: read from the statements, and written to docs/cost.md."""

"""From prompts and rows to request lines in Cloud Storage."""

"""Builds request lines from prompts and rows, and uploads them to Cloud Storage."""

"""How the stand-in runs a job: import, rows, output."""

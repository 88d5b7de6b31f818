"""What a job will cost, and may."""

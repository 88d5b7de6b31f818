"""The job: submit it once, wait for it."""

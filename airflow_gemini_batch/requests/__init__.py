"""Before the job: what goes in."""

"""The requests of a job: building, checking and storing them."""

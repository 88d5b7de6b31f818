"""After the job: from its output to typed rows."""

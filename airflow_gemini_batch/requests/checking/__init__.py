"""What the import and the model refuse, found before a job is submitted; and repair."""

"""What goes wrong, when a test asks for it."""

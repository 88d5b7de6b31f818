"""What the stand-in answers to a request."""

"""What the service writes on the wire: its errors, and the schemas of its messages."""

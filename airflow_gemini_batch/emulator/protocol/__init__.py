"""The wire format of the service: its errors and the schemas of its messages."""

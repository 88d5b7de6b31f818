"""Generates the response to a request."""

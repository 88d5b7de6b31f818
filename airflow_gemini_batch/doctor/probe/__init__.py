"""Tiny jobs that settle what nobody has published about the service."""

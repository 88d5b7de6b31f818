"""Checks requests before a job is submitted, and repairs them."""

"""Checks a Google Cloud set-up before the first job, and settles with tiny jobs what nobody has published."""

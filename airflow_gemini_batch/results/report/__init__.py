"""The page about a landed job."""

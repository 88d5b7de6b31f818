"""The report: an HTML page about a landed job."""

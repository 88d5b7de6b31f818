"""The batch job: submit it exactly once, wait for it, describe how it ended."""

"""The kinds of tokens that are counted, and their modalities."""

from __future__ import annotations

KINDS = ("prompt", "cached", "output")
"""Kinds that the service also counts by modality."""
ALL_KINDS = (*KINDS, "thought", "total")
MODALITIES = ("AUDIO", "IMAGE", "VIDEO", "DOCUMENT")
"""All modalities except text."""

"""Lineage: which data a task read and wrote, and what became of its batch jobs."""

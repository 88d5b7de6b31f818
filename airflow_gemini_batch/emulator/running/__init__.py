"""Runs jobs: state, import, rows, output."""

"""Arguments that several subcommands take."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add ``source``, which :func:`airflow_gemini_batch.cli.input.open_lines` opens."""
    parser.add_argument(
        "source", metavar="FILE|gs://URI|-", help="JSONL input of the job; - for standard input"
    )


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add ``--format``: ``text`` for people, ``json`` for programs."""
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="output format (default: text)"
    )

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


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add ``--gcp-conn-id``, which :func:`airflow_gemini_batch.cli.connection.hook_of` takes."""
    parser.add_argument(
        "--gcp-conn-id",
        metavar="ID",
        help="Airflow connection to Google Cloud (default: Application Default Credentials of this machine)",
    )


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add ``--project`` and ``--location``."""
    parser.add_argument(
        "--project",
        metavar="ID",
        help="project of the jobs (default: that of the connection, then GOOGLE_CLOUD_PROJECT)",
    )
    parser.add_argument(
        "--location",
        metavar="LOCATION",
        help="where the jobs run: global, us, eu or a region (default: GOOGLE_CLOUD_LOCATION, then global)",
    )


def add_installation(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Add ``--installation`` and ``--all-installations``.

    :param meaning: what happens to jobs of all installations
    """
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--installation",
        metavar="NAME",
        help="the Airflow installation (default: [gemini_batch] installation, or the Airflow variable "
        "gemini_batch_installation, if Airflow's database can be read here)",
    )
    group.add_argument("--all-installations", action="store_true", help=meaning)

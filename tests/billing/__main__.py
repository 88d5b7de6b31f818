"""``python -m tests.billing``: compute what BigQuery bills, and write it to the page about cost."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.billing.modes import bills
from tests.billing.tables import MARKS, tables
from tests.results.google_sql import GoogleSql
from tests.scaling.tables import replaced


def main() -> None:
    """Print the tables and the number of statements, or write the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.billing", description=__doc__)
    parser.add_argument("--write", type=Path, help="the page to write the tables to")
    page = parser.parse_args().write
    found = bills(GoogleSql())
    text = tables(found)
    if page:
        page.write_text(replaced(page.read_text(encoding="utf-8"), text, MARKS), encoding="utf-8")
    else:
        print(
            text, "", *(f"{bill.statements:3} statements: {name}" for name, bill in found.items()), sep="\n"
        )


if __name__ == "__main__":
    main()

"""``python -m tests.scaling``: compute the tables of the page about scaling, and write them to it."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.scaling.model import Assumptions, Row
from tests.scaling.tables import replaced, tables


def main() -> None:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(prog="python -m tests.scaling", description=__doc__)
    parser.add_argument("--write", type=Path, help="the page to write the tables to")
    page = parser.parse_args().write
    text = tables(Row(), Assumptions())
    if page:
        page.write_text(replaced(page.read_text(encoding="utf-8"), text), encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()

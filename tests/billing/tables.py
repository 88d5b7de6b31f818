"""The tables about BigQuery in docs/cost.md. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.billing.model import ROW, SIZES, days_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.billing.model import Bill

MARKS = ("<!-- billing: begin -->", "<!-- billing: end -->")


def tables(bills: Mapping[str, Bill]) -> str:
    """Return what stands between the marks of the page.

    :param bills: by the name of what is billed
    """
    lines = [
        "| | " + " | ".join(f"table of {size_text(size)}" for size in SIZES) + " |",
        "| --- |" + " --- |" * len(SIZES),
    ]
    lines += [
        f"| {name} | {' | '.join(_billed(bill, size) for size in SIZES)} |" for name, bill in bills.items()
    ]
    days = ", ".join(f"{days_of(size)} days of {size_text(size / days_of(size))}" for size in SIZES)
    lines += [
        "",
        f"The tables have {days}. The formula; a percentage is the share of the columns that are read:",
        "",
        "| | the job's own rows | of the days since a time | of all days | whole days |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [f"| {name} | {_formula(bill)} |" for name, bill in bills.items()]
    return "\n".join([MARKS[0], *lines, MARKS[1]])


def size_text(size: float) -> str:
    """Write bytes with three digits and a unit."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return "0" if not size else "under 1 MB"


def _billed(bill: Bill, table: int) -> str:
    dollars = bill.dollars(table)
    return f"{size_text(bill.size(table))}, {f'${dollars:.2f}' if dollars >= 0.01 else 'under 1 cent'}"


def _formula(bill: Bill) -> str:
    since = " + ".join(
        f"{days} × {_share(row_bytes)}" for days, row_bytes in sorted(bill.row_bytes.items()) if days
    )
    return " | ".join(
        [
            size_text(bill.own),
            since or "0",
            _share(bill.row_bytes.get(0, 0)),
            f"{bill.whole_days:.2f}".rstrip("0").rstrip("."),
        ]
    )


def _share(row_bytes: float) -> str:
    return f"{row_bytes / ROW:.2%}" if row_bytes else "0"

"""What stands on the page, and what the catalog has, as Python has it."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.integration.api.stack import Api

# What every view is called: its place, its heading.
VIEWS = {
    "": "Workspaces",
    "w/consortium": "consortium",
    "w/consortium/runs": "Runs in consortium",
    "w/consortium/m/risk": "risk",
    "w/guarded/budget": "Privacy budget of guarded",
    "w/consortium/quality": "Data quality in consortium",
    "w/consortium/alerts": "Alerts of consortium",
    "w/consortium/erasures": "Erasures in consortium",
    "w/consortium/audit": "Audit log of consortium",
    "runs": "Runs",
    "experiments": "Experiments",
    "experiments/halves": "halves",
    "sql": "SQL",
}


def rows(api: Api, query: str, *values: object) -> list[dict[str, Any]]:
    """What the catalog has."""
    return api.world.query(query, *values)


def notices(api: Api, query: str) -> list[str]:
    """What the database says beside the rows of a query."""
    said: list[str] = []
    with api.world.catalog() as connection:
        connection.add_notice_handler(
            lambda notice: said.append(f"{notice.message_primary}: {notice.message_detail}")
        )
        connection.execute(query)
    return said


def read_table(page: Page | Locator, caption: str) -> list[dict[str, str]]:
    """The rows of the table of that caption, by its headings."""
    table = page.get_by_role("table", name=caption, exact=True)
    expect(table).to_be_visible()
    heads = table.locator("thead th").all_text_contents()
    return [
        dict(zip(heads, row.locator("th, td").all_text_contents(), strict=True)) for row in table.locator("tbody tr").all()
    ]  # fmt: skip


def number(text: str) -> float | None:
    """The number that the page wrote; None for one that there is not."""
    return (
        None
        if text in {"unknown", "none", "not told"}
        else float(text.split(" ", maxsplit=1)[0].replace(",", ""))
    )


def same(shown: str, known: float | None) -> bool:
    """Whether a figure of the page is that of the catalog, to the digits that the page writes."""
    seen = number(shown)
    if seen is None or known is None:
        return seen is None and known is None
    return (
        abs(seen - known) <= 6e-3 * abs(known)
        if abs(known) < 1e-4
        else abs(seen - known) <= 6e-4 * abs(known)
    )

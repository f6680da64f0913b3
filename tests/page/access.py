"""Who gets where: the keyboard's way through the page, and what axe-core finds in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Page

_AXE = Path(__file__).resolve().parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"


def focused(page: Page) -> str:
    """The text of what has the focus."""
    return str(page.evaluate("() => document.activeElement.textContent || document.activeElement.id"))


def tab_to(page: Page, text: str, key: str = "Tab", most: int = 40) -> None:
    """Press Tab until something of that text has the focus."""
    for _ in range(most):
        page.keyboard.press(key)
        if focused(page) == text:
            return
    raise AssertionError(f"{key} does not lead to {text}")


def load_axe(page: Page) -> None:
    """Bring axe-core into a page, past its content policy."""
    page.evaluate(_AXE.read_text())


def find_violations(page: Page, options: dict[str, object]) -> list[tuple[str, str]]:
    """The violations that shut people out, each with the first place."""
    found: dict[str, Any] = page.evaluate(
        "options => axe.run(document, {...options, resultTypes: ['violations']})", options
    )
    return [
        (one["id"], one["nodes"][0]["failureSummary"])
        for one in found["violations"] if one["impact"] in {"serious", "critical"}
    ]  # fmt: skip

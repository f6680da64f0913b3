"""The pictures of docs/page.md: what is taken, and how."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

PICTURES = {
    "nodes": ("w/consortium", "consortium", {}),
    "budget": ("w/guarded/budget", "Privacy budget of guarded", {}),
    "model": ("w/consortium/m/risk", "risk", {}),
    "audit": ("w/consortium/audit", "Audit log of consortium", {}),
    "dark": ("w/guarded/budget", "Privacy budget of guarded", {"dark": True}),
    "phone": ("w/consortium", "consortium", {"phone": True}),
}
_LARGEST = 150_000


def furnish(page: Page, *, dark: bool = False, phone: bool = False) -> None:
    """Give a page the window of its picture."""
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.set_viewport_size({"width": 360 if phone else 960, "height": 640})


def take(page: Page, place: Path) -> None:
    """Take a picture, which is small and not empty."""
    page.evaluate("() => document.activeElement.blur()")
    page.mouse.move(0, 0)
    picture = page.screenshot(path=place, animations="disabled")
    assert 5_000 < len(picture) <= _LARGEST, place.name

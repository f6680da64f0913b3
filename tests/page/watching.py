"""How far the page is behind a run that it shows, and what that costs the browser."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import CDPSession, Page, expect

from tests.integration.api.stack import Api
from tests.page.scene import start

# When each round was drawn, by the browser's clock, which is this machine's.
_NOTE_ROUNDS = """() => {
    window.drawn = {};
    const note = () => {
        const [plot] = document.querySelectorAll('.plot');
        if (plot?.dataset.last) window.drawn[plot.dataset.last] ??= Date.now() / 1000;
    };
    new MutationObserver(note).observe(document.body, {attributes: true, subtree: true, attributeFilter: ['data-last']});
}"""


def start_watching(api: Api, page: Page, rounds: int) -> str:
    """Start a run, open its view, and note when rounds are drawn."""
    page.evaluate(_NOTE_ROUNDS)
    run = start(api, "live", rounds=rounds)
    page.goto(f"{api.url}/#/runs/{run}")
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Run [0-9]+ of live$"))
    return run


def list_lags(page: Page, closed: list[dict[str, Any]]) -> list[float]:
    """By how many seconds each round was drawn after it was closed; some were seen one by one."""
    drawn = page.evaluate("() => window.drawn")
    assert len(drawn) > 2
    # Rounds of one look are drawn at once: a round is on the page when it or a later one was drawn.
    return [
        min(at for number, at in drawn.items() if int(number) >= row["round_number"]) - row["at"]
        for row in closed
    ]


def heap(session: CDPSession) -> int:
    """Bytes in use after a collection."""
    session.send("HeapProfiler.collectGarbage")
    return int(session.send("Runtime.getHeapUsage")["usedSize"])

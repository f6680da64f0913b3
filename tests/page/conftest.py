"""One stack and one browser for all tests of the page.

What always holds: a test ends with a clean console: no error of a script, nothing that the content policy
refused; what the server answered with an error on purpose, the test has named.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.integration.api.stack import DEADLINE, Api, drop_roles, make_roles, running_api
from tests.integration.coordinator.support import make_world
from tests.page.scene import set_scene
from tests.support.cluster import Cluster

_ANSWERED = re.compile(r"status of (\d+)")


@pytest.fixture(scope="module")
def api(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Three nodes, a coordinator, an API, and what `scene` types."""
    database = cluster.create_database("federated_template")
    with make_world(cluster, tmp_path_factory.mktemp("page"), database) as world:
        try:
            tokens = make_roles(world)
            world.start_coordinator()
            set_scene(world)
            with running_api(world, "api", tokens) as made:
                yield made
        finally:
            world.end_processes()
            cluster.drop_database(database)
            drop_roles(world)


@pytest.fixture(scope="module")
def browser(api: Api) -> Iterator[Browser]:
    """Debian's Chromium, without a window. After the stack, whose coroutines end before Playwright's loop begins."""
    del api
    chromium = shutil.which("chromium")
    assert chromium is not None, "Chromium is missing: scripts/setup.sh --clients installs it"
    expect.set_options(timeout=DEADLINE * 1000)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield launched
        launched.close()


@dataclass
class Visit:
    """A browser's window on the page. expected: statuses that the server may answer with."""

    api: Api
    page: Page
    expected: set[int] = field(default_factory=lambda: {401})
    said: list[str] = field(default_factory=list)

    def hear(self, message: ConsoleMessage) -> None:
        """Keep what the console says, but answers with a status that was expected."""
        answered = _ANSWERED.search(message.text)
        if message.type in {"error", "warning"} and not (answered and int(answered[1]) in self.expected):
            self.said.append(message.text)

    def enter(self, role: str = "rest_admin") -> Page:
        """Sign in, as a person does."""
        self.page.goto(self.api.url + "/")
        self.page.get_by_label("Token").fill(self.api.tokens[role])
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()
        return self.page

    def go(self, place: str, title: str | re.Pattern[str]) -> Page:
        """Show the view at a place, and wait until it is there."""
        self.page.goto(f"{self.api.url}/#/{place}")
        expect(self.page.get_by_role("heading", level=1)).to_have_text(title)
        expect(self.page.locator(".content")).not_to_have_text("Loading…")
        return self.page


@pytest.fixture
def visit(api: Api, browser: Browser) -> Iterator[Visit]:
    """A window of its own for each test: no cookie, no memory."""
    context = browser.new_context(
        viewport={"width": 1200, "height": 800}, color_scheme="light", locale="en-GB", timezone_id="UTC"
    )
    context.set_default_timeout(DEADLINE * 1000)
    made = Visit(api, context.new_page())
    made.page.on("console", made.hear)
    made.page.on("pageerror", lambda error: made.said.append(str(error)))
    yield made
    context.close()
    assert made.said == []


@pytest.fixture(scope="module")
def cookie(api: Api) -> Any:
    """The cookie of an administrator's session."""
    with api.client() as client:
        answer = client.post("/session", json={"token": api.tokens["rest_admin"]})
    [(name, value)] = answer.cookies.items()
    return {"name": name, "value": value, "url": api.url}


@pytest.fixture
def inside(visit: Visit, cookie: Any) -> Visit:
    """The same, signed in as an administrator."""
    visit.page.context.add_cookies([cookie])
    visit.page.goto(visit.api.url + "/")
    expect(visit.page.get_by_role("button", name="Sign out")).to_be_visible()
    return visit

"""Python's drivers see through the proxy what they would see if PostgreSQL itself knew the language."""

from __future__ import annotations

import pytest

from tests.clients.comparison import differences
from tests.clients.conftest import Site
from tests.clients.python_drivers import PYTHON_DRIVERS
from tests.clients.script import SCRIPTS

MODES = [(name, mode) for name, (_, modes) in PYTHON_DRIVERS.items() for mode in modes]


@pytest.mark.parametrize("part", SCRIPTS)
@pytest.mark.parametrize(("name", "mode"), MODES, ids=lambda part: part)
def test_a_driver_gets_tags_rows_notices_and_errors(site: Site, name: str, mode: str, part: str) -> None:
    driver = PYTHON_DRIVERS[name][0](site, mode)
    try:
        found = differences(driver, SCRIPTS[part](f"{name}_{mode}".replace("-", "_")))
    finally:
        driver.close()
    assert not found, "\n".join(found)

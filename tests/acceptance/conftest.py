"""A whole installation, as `heliosdb up` makes it: clusters, certificates, workers, coordinator, proxy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from heliosdb.cli.demo.installation import Access, installed


@pytest.fixture(scope="session")
def installation() -> Iterator[Access]:
    """Five nodes, one coordinator, one proxy; the extension is made as the quick start makes it."""
    with installed(5) as access:
        yield access

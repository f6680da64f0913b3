"""Whose page a browser's call comes from."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import Request

from heliosdb.api.config import ApiConfig
from heliosdb.api.origins import require_own_page
from heliosdb.api.problems import Problem

BEHIND = {"database": "dbname=x", "origin": "https://fl.example.com"}
BARE = {"database": "dbname=x"}


def request(method: str, **headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request(
        {"type": "http", "scheme": "http", "server": ("127.0.0.1", 1), "path": "/", "query_string": b"",
         "method": method, "headers": [(b"host", b"127.0.0.1:8480"), *pairs]}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "method", "headers", "own"),
    [
        (BARE, "POST", {}, True),
        (BARE, "POST", {"origin": "http://127.0.0.1:8480", "sec_fetch_site": "same-origin"}, True),
        (BARE, "POST", {"origin": "http://localhost:8480"}, False),
        (BARE, "POST", {"origin": "http://127.0.0.1:8481"}, False),
        (BARE, "POST", {"origin": ""}, False),
        (BARE, "GET", {"sec_fetch_site": "none"}, True),
        (BARE, "POST", {"sec_fetch_site": "none"}, False),
        (BARE, "GET", {"sec_fetch_site": "same-site"}, False),
        (BEHIND, "POST", {"origin": "https://fl.example.com"}, True),
        (BEHIND, "POST", {"origin": "http://127.0.0.1:8480"}, False),
        (BEHIND, "POST", {"origin": "https://fl.example.com.evil.example"}, False),
    ],
)
def test_what_another_page_sends_is_refused(
    settings: dict[str, Any], method: str, headers: dict[str, str], own: bool
) -> None:
    config = ApiConfig.model_validate(settings)
    if own:
        require_own_page(request(method, **headers), config)
    else:
        with pytest.raises(Problem) as caught:
            require_own_page(request(method, **headers), config)
        assert caught.value.status == 403


@pytest.mark.parametrize(
    "origin", ["http://fl.example.com", "https://fl.example.com/", "https://FL.example.com", "null", ""]
)
def test_an_origin_of_the_settings_is_one_that_browsers_send(origin: str) -> None:
    with pytest.raises(ValueError, match="https://"):
        ApiConfig.model_validate(BARE | {"origin": origin})

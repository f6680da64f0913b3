"""The page's files: which are served, and with what."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from heliosdb.api.pages import make_router, read_pages

SCRIPT = b"let figure = 1;\n" * 100


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    (tmp_path / "assets" / "deeper").mkdir(parents=True)
    (tmp_path / "index.html").write_text("<!doctype html><title>t</title>")
    (tmp_path / "assets" / "page-1A2B3C4D.js").write_bytes(SCRIPT)
    (tmp_path / "assets" / "page.css").write_text("p {}")
    (tmp_path / "assets" / "page.py").write_text("secret")
    (tmp_path / "secret.html").write_text("secret")
    app = FastAPI(docs_url=None)
    app.include_router(make_router(read_pages(tmp_path)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page") as made:
        yield made


async def test_a_page_is_asked_for_each_time_and_a_hashed_file_once(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert (await client.get("/", headers={"If-None-Match": page.headers["etag"]})).status_code == 304
    script = await client.get("/assets/page-1A2B3C4D.js")
    assert "immutable" in script.headers["cache-control"]
    assert script.headers["content-encoding"] == "gzip"
    assert script.content == SCRIPT
    plain = await client.get("/assets/page-1A2B3C4D.js", headers={"Accept-Encoding": "br, gzip;q=0"})
    assert "content-encoding" not in plain.headers
    assert plain.content == SCRIPT
    assert int(script.headers["content-length"]) == len(gzip.compress(SCRIPT, mtime=0))
    head = await client.head("/assets/page.css")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "path",
    ["/secret.html", "/assets/page.py", "/assets/deeper", "/assets/", "/assets/..%2fsecret.html", "/assets/%2e%2e/secret.html",
     "/docs", "/index.html", "/assets/page.css%00.js"],
)  # fmt: skip
async def test_nothing_is_served_but_what_was_read_at_the_start(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404

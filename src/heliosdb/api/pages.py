"""The page's files: read whole at the start, served by their names and no others.

What always holds: no path of a request becomes a path of the file system; a page runs no script, style or
font but this server's own files, and none that stands in the page itself.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "json": "application/json",
    "webmanifest": "application/manifest+json",
    "png": "image/png",
    "ico": "image/x-icon",
    "woff2": "font/woff2",
    "txt": "text/plain; charset=utf-8",
}
_COMPRESSED = frozenset({"png", "ico", "woff2"})
# A name with a hash of what is in the file, as bundlers write it, never stands for anything else.
_HASHED = re.compile(r"[-.](?:[0-9a-f]{8,}|[0-9A-Z]{8,})\.\w+$")
_FOREVER = "public, max-age=31536000, immutable"
_ASKED_EACH_TIME = "no-cache"


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file as it is sent. packed: the same by gzip, where that is shorter."""

    body: bytes
    packed: bytes | None
    media_type: str
    etag: str
    caching: str


@dataclass(frozen=True, slots=True)
class Pages:
    """The files by their paths under the root: `index.html`, `assets/…`."""

    files: Mapping[str, PageFile]

    def answer(self, request: Request, path: str) -> Response:
        """The file of that path; 404 where there is none, 304 where the browser has it already."""
        file = self.files.get(path)
        if file is None:
            raise HTTPException(404, _missing(path))
        headers = {
            "ETag": file.etag,
            "Cache-Control": file.caching,
            "Vary": "Accept-Encoding",
            "Content-Security-Policy": POLICY,
        }
        if file.etag in _listed(request, "if-none-match"):
            return Response(status_code=304, headers=headers)
        body = file.body
        if file.packed is not None and "gzip" in _listed(request, "accept-encoding"):
            body = file.packed
            headers["Content-Encoding"] = "gzip"
        return Response(body, headers=headers, media_type=file.media_type)


def read_pages(root: Traversable | None = None) -> Pages:
    """Read the files of this package's folder `static`, or of another one."""
    root = root or resources.files("heliosdb.api").joinpath("static")
    found: dict[str, PageFile] = {}
    for folder, prefix in ((root, ""), (root.joinpath("assets"), "assets/")):
        for entry in folder.iterdir() if folder.is_dir() else ():
            ending = entry.name.rpartition(".")[2]
            if entry.is_file() and ending in _TYPES:
                found[prefix + entry.name] = _read(entry, ending)
    return Pages(found)


def make_router(pages: Pages) -> APIRouter:
    """The paths of the page."""
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def show_page(request: Request) -> Response:
        return pages.answer(request, "index.html")

    @router.api_route("/docs", methods=["GET", "HEAD"])
    async def show_docs(request: Request) -> Response:
        return pages.answer(request, "docs.html")

    @router.api_route("/assets/{name}", methods=["GET", "HEAD"])
    async def show_asset(request: Request, name: str) -> Response:
        return pages.answer(request, f"assets/{name}")

    return router


def _read(entry: Traversable, ending: str) -> PageFile:
    body = entry.read_bytes()
    # Without a time in it: the same file is the same bytes.
    packed = None if ending in _COMPRESSED else gzip.compress(body, mtime=0)
    return PageFile(
        body,
        packed if packed is not None and len(packed) < len(body) else None,
        _TYPES[ending],
        f'W/"{hashlib.sha256(body).hexdigest()[:32]}"',
        _FOREVER if _HASHED.search(entry.name) else _ASKED_EACH_TIME,
    )


def _listed(request: Request, header: str) -> set[str]:
    """The items of a header's list; one with q=0 is none."""
    items = (item.strip() for item in request.headers.get(header, "").split(","))
    return {item.partition(";")[0].strip() for item in items if not re.search(r";\s*q=0(\.0*)?$", item)}


def _missing(path: str) -> str:
    if path == "index.html":
        return "This installation was built without the page; the API answers under /api/v1/federated."
    return "Not Found"

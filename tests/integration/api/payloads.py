"""Two thousand payloads from a short table, and every place of every call that takes one."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.integration.api.cases import MISSING, OPERATIONS, PRESENT, Operation

_BASES = (
    "'", '"', "\\", "''", '""', "$$", "$a$", "; DROP TABLE federated.workspace", "'; DROP TABLE federated.workspace; --",
    '"; DROP TABLE federated.workspace; --', "') ; SELECT 1 --", "\\'; SELECT 1 --", "E'\\''", "U&'\\0027'", "$$; SELECT 1; $$",
    "' OR 1=1 --", "x' UNION SELECT session_user --", "'||pg_sleep(9)||'", "/* */", "--", "%s", "%(a)s", "$1", "{}", "${x}", "{{7*7}}",
    "../../etc/passwd", "..", "a\nb", "a\r\nX-Injected: 1", "a\r\n\r\nGET / HTTP/1.1", "\u2028", "\u202e", "' WITH (owner = 'postgres')",
    "m WITH (rounds = 1)", "RESET ROLE", "SET ROLE postgres", "'; RESET ROLE; --", "COMMIT", '"; COMMIT; RESET ROLE; --', "\ufeff",
    "\U0001f986'", "ǅ\"", "%27", "%00", "a\0b", "\x7f", "\ud800", "null", "true", "NaN", "-1", "1e400", "0x10", "[1]", '{"a": 1}', '","x":"',
    "CASCADE", "current_user", "postgres", "federated_admin", "pg_catalog", "risk@1", "@", "risk'@'good", "SEALED 'AAAA'",
    "; CALL federated.execute($$DROP FEDERATED WORKSPACE consortium CASCADE$$)", "COPY x FROM PROGRAM 'id'", "lo_import('/etc/passwd')",
    "<script>alert(1)</script>", "javascript:alert(1)", "file:///etc/passwd", "http://169.254.169.254/", "$(id)", "`id`", "|id",
    "x'; NOTIFY a; --", "pg_read_file('/etc/passwd')", '{"$gt": ""}', "SET heliosdb.workspace = 'x'",
)  # fmt: skip
_ENCODINGS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: quote(text, safe="", errors="surrogatepass"),
    lambda text: quote(quote(text, safe="", errors="surrogatepass"), safe=""),
    json.dumps,
    lambda text: "".join(f"\\u{ord(one):04x}" for one in text),
    lambda text: "".join(f"&#{ord(one)};" for one in text),
    lambda text: base64.b64encode(text.encode("utf-8", "surrogatepass")).decode(),
    str.upper,
    str.swapcase,
    lambda text: f"risk{text}",
    lambda text: f"risk@{text}",
    lambda text: f"{text}risk",
    lambda text: f"'{text}'",
    lambda text: f'"{text}"',
    lambda text: f"$${text}$$",
    lambda text: f"/*{text}*/",
    lambda text: text.replace(" ", "/**/") + "\t",
    lambda text: text.replace("'", "\u2019").replace('"', "\uff02").replace(";", "\uff1b") + "\uff07",
    lambda text: text + "\0",
    lambda text: text + "\r\nX-Injected: 1",
    lambda text: " " + text + " ",
    lambda text: text[::-1],
    lambda text: "\u202e" + text,
    "\u200b".join,
    lambda text: text * 40,
    lambda text: text + "x" * 5_000,
    lambda text: "\\" + text,
    lambda text: text + "\U000e0001",
)
# In a body alone: of another kind than is asked for.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63) - 1, 10**40, 0.5, -0.0, 1e308, 5e-324, "", " ", [], [[]], [None], {}, {"": ""},
    {"$ne": 1}, {"__proto__": {}}, ["'"] * 50, [0] * 2_000, "x" * 70_000, {"a": {"b": {"c": "'"}}}, [[[[["'"]]]]], {"'": "'"},
)  # fmt: skip


def texts() -> list[str]:
    """Each text once, in an order that mixes what they attack."""
    found = dict.fromkeys(encode(base) for encode in _ENCODINGS for base in _BASES)
    return [text for text in found if text]


@dataclass(frozen=True)
class Place:
    """Where in a call a payload goes: a path's name, a parameter, a header, or a value or key of the body."""

    operation: Operation
    kind: str
    name: Any

    def request(self, payload: Any, names: dict[str, str]) -> tuple[str, str, dict[str, Any]]:
        """Method, path and httpx's arguments of the call with it."""
        # What deletes is given names of nothing, for a payload may say CASCADE.
        names = dict(MISSING if self.operation.method == "DELETE" else names)
        if self.kind == "path":
            names[self.name] = encoded(payload)
        path, body = self.operation.path.format_map(names), copy.deepcopy(self.operation.call(names)[1])
        options: dict[str, Any] = {}
        match self.kind:
            case "path":
                _, body = self.operation.call({**names, self.name: "none"})
            case "query":
                path += f"?{self.name}={encoded(payload)}"
            case "header":
                options["headers"] = {self.name: payload.encode("utf-8", "surrogatepass")}
            case "body":
                body = _replaced(body, self.name, payload)
            case "key":
                body = _renamed(body, self.name, payload)
        if body is not None:
            options["content"] = json.dumps(body)
            options["headers"] = {**options.get("headers", {}), "Content-Type": "application/json"}
        return self.operation.method, path, options


def encoded(text: str) -> str:
    """A text as a part of a path or query."""
    return quote(text, safe="", errors="surrogatepass")


def places(document: dict[str, Any], prefix: str, aliases: dict[str, str]) -> Iterator[Place]:
    """Every place of every operation; parameters as the OpenAPI document has them."""
    for operation in OPERATIONS:
        described = document["paths"].get(prefix + operation.path.format_map(aliases), {})
        parameters = described.get(operation.method.lower(), {}).get("parameters", [])
        for name in PRESENT.keys() | {"r"}:
            if f"{{{name}}}" in operation.path:
                yield Place(operation, "path", name)
        for parameter in parameters:
            if parameter["in"] in ("query", "header"):
                yield Place(operation, parameter["in"], parameter["name"])
        yield Place(operation, "header", "Authorization")
        yield from (Place(operation, kind, way) for kind, way in _inside(operation.body))


def _inside(body: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The ways to every value of a body, and to every key."""
    if body is None:
        return
    yield "body", way
    children = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, value in children:
        if isinstance(body, dict):
            yield "key", (*way, key)
        yield from _inside(value, (*way, key))


def _replaced(body: Any, way: tuple[Any, ...], value: Any) -> Any:
    if not way:
        return value
    body[way[0]] = _replaced(body[way[0]], way[1:], value)
    return body


def _renamed(body: Any, way: tuple[Any, ...], name: Any) -> Any:
    if len(way) > 1:
        body[way[0]] = _renamed(body[way[0]], way[1:], name)
        return body
    return {name if key == way[0] else key: value for key, value in body.items()}

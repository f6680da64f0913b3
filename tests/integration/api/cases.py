"""What is sent to the API: bad input, every path, and SQL in every field."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

WORKSPACE = "consortium"
MODEL = f"/workspaces/{WORKSPACE}/models/risk"

BAD = [
    ("POST", MODEL + "/predict", {"json": {"features": {"height": 1}}}, 422),
    ("POST", MODEL + "/predict", {"json": {"features": {"age": "old"}}}, 422),
    ("POST", MODEL + "/predict", {"json": {"features": {"age": [1]}}}, 422),
    ("POST", MODEL + "/predict", {"json": {"features": {"age": "a\0b"}}}, 422),
    ("POST", MODEL + "/predict", {"json": {"instances": []}}, 422),
    ("POST", MODEL + "/predict", {"json": {}}, 422),
    ("POST", MODEL + "/predict", {"json": {"features": {}, "instances": [{}]}}, 422),
    ("POST", MODEL + "/predict", {"json": {"instances": [{}] * 10_001}}, 413),
    ("POST", MODEL + "/predict", {"json": {"features": {}, "version": "9"}}, 404),
    ("POST", MODEL + "/predict", {"json": {"features": {}, "version": "no tag"}}, 404),
    ("POST", MODEL + "/predict", {"content": b'{"features": {"age": NaN}}'}, 400),
    ("POST", MODEL + "/predict", {"content": b'{"features": {"age": 1e999}}'}, 400),
    ("POST", MODEL + "/predict", {"content": b" " * 10_000_000}, 413),
    ("POST", MODEL + "/predict", {"content": b'"'}, 400),
    ("POST", f"/workspaces/{WORKSPACE}/models/none/predict", {"json": {"features": {}}}, 404),
    ("POST", "/workspaces/none/models/risk/predict", {"json": {"features": {}}}, 404),
    ("POST", MODEL + "/train", {"json": {"options": {"roundz": 1}}}, 422),
    ("POST", MODEL + "/train", {"json": {"options": {"rounds": "many"}}}, 422),
    ("POST", "/workspaces", {"json": {"name": WORKSPACE}}, 409),
    ("POST", "/workspaces", {"json": {"name": ""}}, 422),
    ("POST", "/workspaces", {"json": {"name": "x" * 64}}, 422),
    ("POST", "/workspaces", {"json": {"name": "x", "extra": 1}}, 422),
    ("GET", "/workspaces?limit=0", {}, 422),
    ("GET", "/workspaces/a%00b", {}, 422),
    ("GET", "/runs/00000000-0000-0000-0000-000000000000", {}, 404),
    ("GET", "/runs/00000000-0000-0000-0000-000000000000/events", {}, 404),
    ("GET", MODEL + "/status?run=99", {}, 404),
    ("GET", MODEL + "/evaluate?version=9", {}, 404),
    ("GET", f"/workspaces/{WORKSPACE}/nodes/none", {}, 404),
    ("GET", "/workspaces/none/budget", {}, 404),
    ("DELETE", "/workspaces", {}, 405),
]

TEMPLATES = [
    ("GET", "/workspaces", None), ("POST", "/workspaces", {"name": "{new}"}), ("GET", "/workspaces/{w}", None),
    ("GET", "/workspaces/{w}/budget", None), ("GET", "/workspaces/{w}/erasures", None), ("GET", "/workspaces/{w}/alerts", None),
    ("GET", "/workspaces/{w}/nodes", None), ("POST", "/workspaces/{w}/nodes", {"name": "a"}),
    ("GET", "/workspaces/{w}/nodes/{n}", None), ("GET", "/workspaces/{w}/models", None),
    ("POST", "/workspaces/{w}/models", {"name": "risk"}), ("GET", "/workspaces/{w}/models/{m}", None),
    ("GET", "/workspaces/{w}/models/{m}/versions", None), ("GET", "/workspaces/{w}/models/{m}/evaluate", None),
    ("POST", "/workspaces/{w}/models/{m}/train", {"options": {"rounds": -1}}), ("GET", "/workspaces/{w}/models/{m}/status", None),
    ("GET", "/workspaces/{w}/models/{m}/runs", None), ("POST", "/workspaces/{w}/models/{m}/predict", {"features": {}}),
    ("GET", "/runs/{r}", None), ("GET", "/runs/{r}/events", None), ("GET", "/openapi.json", None),
    ("GET", "/session", None), ("POST", "/session", {"token": "none"}), ("DELETE", "/session", None),
    ("POST", "/sql", {"statement": "SELECT 1"}),
]  # fmt: skip
MISSING = {
    "w": "none",
    "n": "none",
    "m": "none",
    "r": "00000000-0000-0000-0000-000000000000",
    "new": WORKSPACE,
}

PAYLOADS = [
    "'", '"', "\\", "''", '""', "$$", "$a$", "; DROP TABLE federated.workspace", "'; DROP TABLE federated.workspace; --",
    '"; DROP TABLE federated.workspace; --', "') ; SELECT 1 --", "\\'; SELECT 1 --", "E'\\''", "U&'\\0027'", "$$; SELECT 1; $$",
    "' OR 1=1 --", "x' UNION SELECT session_user --", "'||pg_sleep(9)||'", "/* */", "--", "%s", "%(a)s", "$1", "{}", "${x}", "{{7*7}}",
    "../../etc/passwd", "a\nb", "a\r\nSet-Cookie: x=1", "\u2028", "\u202e", "' WITH (owner = 'postgres')", "m WITH (rounds = 1)",
    "RESET ROLE", "SET ROLE postgres", "'; RESET ROLE; --", "COMMIT", "\"; COMMIT; RESET ROLE; --", "\ufeff", "🦆'", "ǅ\"", "%27", "%00",
]  # fmt: skip


def payload_calls(payload: str) -> list[tuple[str, str, dict[str, Any]]]:
    part = quote(payload, safe="")
    return [
        ("POST", "/workspaces", {"json": {"name": payload[:60], "options": {"data_residency": payload}}}),
        ("POST", "/workspaces", {"json": {"name": "injected", "options": {payload: 1}}}),
        ("POST", f"/workspaces/{part}/nodes", {"json": {"name": payload}}),
        (
            "POST",
            f"/workspaces/{WORKSPACE}/nodes",
            {"json": {"name": "inj", "options": {"endpoint": payload}}},
        ),
        (
            "POST",
            f"/workspaces/{WORKSPACE}/models",
            {"json": {"name": payload[:60], "options": {"algorithm": payload}}},
        ),
        (
            "POST",
            f"/workspaces/{WORKSPACE}/models/{part}/train",
            {"json": {"options": {"aggregation": payload}}},
        ),
        (
            "POST",
            MODEL + "/train",
            {"json": {"options": {"aggregation": payload}}, "headers": {"Idempotency-Key": "k"}},
        ),
        ("POST", MODEL + "/predict", {"json": {"features": {payload[:60]: payload}}}),
        ("POST", MODEL + "/predict", {"json": {"features": {"age": payload}, "version": payload[:60]}}),
        ("GET", f"/workspaces/{part}/models/{part}/versions", {}),
        ("GET", MODEL + f"/evaluate?version={part}", {}),
        ("GET", f"/workspaces/{WORKSPACE}/nodes/{part}", {}),
        ("GET", f"/runs/{part}", {}),
        ("GET", f"/workspaces?limit={part}", {}),
    ]

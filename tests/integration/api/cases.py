"""What is sent to the API: every path with its names, and bad input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WORKSPACE = "consortium"
MODEL = f"/workspaces/{WORKSPACE}/models/risk"


@dataclass(frozen=True)
class Operation:
    """A call of a path, with names in braces. again: what makes anew what it took away."""

    method: str
    path: str
    body: Any = None
    again: tuple[str, str, Any] | None = None

    def call(self, names: Mapping[str, str]) -> tuple[str, Any]:
        """Path and body with these names."""
        return self.path.format_map(names), fill(self.body, names)


def fill(body: Any, names: Mapping[str, str]) -> Any:
    """A body with names in the place of `<x>`."""
    text = json.dumps(body)
    for name, value in names.items():
        text = text.replace(f"<{name}>", value)
    return json.loads(text)


_W, _M = "/workspaces/{w}", "/workspaces/{w}/models/{m}"
_CONDITION = {"metric": "global_loss", "operator": ">", "value": 99}
ALERT = {"name": "lost", "conditions": [_CONDITION], "target": "pg:lost"}
ARMS = [{"version": "1", "share": 0.5}, {"version": "2", "share": 0.5}]
ENDPOINT = {"endpoint": "https://localhost:1"}
OPERATIONS = (
    Operation("GET", "/workspaces"),
    Operation("POST", "/workspaces", {"name": WORKSPACE}),
    Operation("GET", _W),
    Operation("PATCH", _W, {"options": {"min_nodes": 3}, "name": "<w>", "owner": "rest_admin"}),
    Operation("DELETE", _W),
    Operation("GET", _W + "/budget"),
    Operation("GET", _W + "/budget/history"),
    Operation("GET", _W + "/data_quality"),
    Operation("GET", _W + "/audit"),
    Operation("GET", _W + "/erasures"),
    Operation("POST", _W + "/erasures", {"model": "<m>", "subjects": ["s"], "options": {"method": "none"}}),
    Operation("GET", _W + "/alerts"),
    Operation("POST", _W + "/alerts", ALERT),
    Operation("DELETE", _W + "/alerts/{a}", again=("POST", _W + "/alerts", ALERT)),
    Operation("GET", _W + "/nodes"),
    Operation("POST", _W + "/nodes", {"name": "a"}),
    Operation("GET", _W + "/nodes/{n}"),
    Operation("PATCH", _W + "/nodes/{n}", {"options": ENDPOINT}),
    Operation("DELETE", _W + "/nodes/{n}", again=("POST", _W + "/nodes", {"name": "a", "options": ENDPOINT})),
    Operation("GET", _W + "/models"),
    Operation("POST", _W + "/models", {"name": "risk"}),
    Operation("GET", _M),
    Operation("PATCH", _M, {"options": {"rounds": 2}, "name": "<m>", "owner": "rest_admin"}),
    Operation("DELETE", _W + "/models/{d}", again=("POST", _W + "/models", {"name": "draft"})),
    Operation("GET", _M + "/versions"),
    Operation("GET", _M + "/versions/{v}"),
    Operation("DELETE", _M + "/versions/{v}"),
    Operation("POST", _M + "/versions/{v}/promote"),
    Operation("PUT", _M + "/tags/{t}", {"version": 1, "replace": True}),
    Operation("DELETE", _M + "/tags/{t}", again=("PUT", _M + "/tags/{t}", {"version": 1})),
    Operation("GET", _M + "/evaluate"),
    Operation("GET", _M + "/coefficients"),
    Operation("GET", _M + "/roc"),
    Operation("GET", _M + "/calibration"),
    Operation("GET", _M + "/confusion"),
    Operation("GET", _M + "/importance"),
    Operation("GET", _M + "/data_quality"),
    Operation("POST", _M + "/train", {"options": {"rounds": -1}}),
    Operation("POST", _M + "/stop"),
    Operation("POST", _M + "/resume"),
    Operation("GET", _M + "/status"),
    Operation("GET", _M + "/runs"),
    Operation("POST", _M + "/predict", {"features": {"age": 1}, "version": "<v>"}),
    Operation("GET", "/runs"),
    Operation("GET", "/runs/{r}"),
    Operation("GET", "/runs/{r}/rounds"),
    Operation("GET", "/runs/{r}/participation"),
    Operation("GET", "/runs/{r}/events"),
    Operation("GET", "/experiments"),
    Operation("POST", "/experiments", {"name": "compare", "model": "<m>", "arms": ARMS}),
    Operation("GET", "/experiments/{e}"),
    Operation("POST", "/experiments/{e}/predict", {"key": "k", "features": {"age": 1}}),
    Operation("POST", "/experiments/{e}/outcomes", {"key": "k", "outcome": 1}),
    Operation("DELETE", "/experiments/{e}", again=("POST", "/experiments", {"name": "compare", "model": "risk", "arms": ARMS})),
    Operation("GET", "/audit"),
    Operation("GET", "/session"),
    Operation("POST", "/session", {"token": "none"}),
    Operation("DELETE", "/session"),
    Operation("POST", "/sql", {"statement": "SELECT 1"}),
    Operation("GET", "/openapi.json"),
)  # fmt: skip
PARAMETERS = {
    "w": "{workspace}", "n": "{node}", "m": "{model}", "d": "{model}", "v": "{version}", "t": "{tag}", "r": "{run_id}",
    "e": "{experiment}", "a": "{alert}",
}  # fmt: skip
PRESENT = {
    "w": WORKSPACE, "n": "a", "m": "risk", "d": "draft", "v": "2", "t": "good", "e": "compare", "a": "lost",
}  # fmt: skip
NO_RUN = "00000000-0000-0000-0000-000000000000"
MISSING = {**dict.fromkeys(PRESENT, "none"), "r": NO_RUN}

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
    ("GET", "/workspaces?limt=5", {}, 422),
    ("GET", "/workspaces?limit=5&limit=6", {}, 422),
    ("GET", "/workspaces/a%00b", {}, 422),
    ("GET", f"/runs/{NO_RUN}", {}, 404),
    ("GET", f"/runs/{NO_RUN}/events", {}, 404),
    ("GET", "/runs/1", {}, 422),
    ("GET", MODEL + "/status?run=99", {}, 404),
    ("GET", MODEL + "/evaluate?version=9", {}, 404),
    ("GET", MODEL + "/roc?version=9", {}, 404),
    ("GET", f"/workspaces/{WORKSPACE}/models/draft/coefficients", {}, 409),
    ("GET", f"/workspaces/{WORKSPACE}/models/draft/data_quality", {}, 409),
    ("GET", f"/workspaces/{WORKSPACE}/nodes/none", {}, 404),
    ("GET", "/workspaces/none/budget", {}, 404),
    ("PATCH", MODEL, {"json": {}}, 422),
    ("PATCH", MODEL, {"json": {"options": {"rounds": "many"}}}, 422),
    ("PATCH", MODEL, {"json": {"options": {"roundz": None}}}, 422),
    ("PATCH", MODEL, {"json": {"name": "a@b"}}, 422),
    ("DELETE", f"/workspaces/{WORKSPACE}", {}, 409),
    ("DELETE", f"/workspaces/{WORKSPACE}/nodes/a?cascade=true", {}, 422),
    ("DELETE", MODEL + "/versions/2", {}, 409),
    ("DELETE", MODEL + "/versions/9", {}, 404),
    ("PUT", MODEL + "/tags/7", {"json": {}}, 422),
    ("PUT", MODEL + "/tags/good", {"json": {"version": 2}}, 409),
    ("POST", MODEL + "/stop", {}, 409),
    ("POST", MODEL + "/resume", {}, 409),
    ("POST", "/experiments", {"json": {"name": "x", "model": "risk", "arms": ARMS[:1]}}, 422),
    ("POST", "/experiments", {"json": {"name": "x", "model": "risk", "arms": [ARMS[0], ARMS[0]]}}, 422),
    ("POST", "/experiments", {"json": {"name": "x", "model": "risk", "arms": ARMS, "keep_days": 0}}, 422),
    ("POST", "/experiments/compare/outcomes", {"json": {"key": "never served", "outcome": 1}}, 404),
    ("POST", "/experiments/compare/outcomes", {"content": b'{"key": "k", "outcome": NaN}'}, 400),
    ("POST", f"/workspaces/{WORKSPACE}/erasures", {"json": {"model": "risk", "subjects": []}}, 422),
    ("DELETE", "/workspaces", {}, 405),
]  # fmt: skip

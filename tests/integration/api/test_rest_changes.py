"""What the API shows of runs and versions is the catalog's; what it changes is a statement of the language."""

from __future__ import annotations

import asyncio
import math
import re
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import psycopg
import pytest

from tests.integration.api.cases import MODEL, WORKSPACE
from tests.integration.api.stack import LOGIN, Api, follow, query, until_served

MODELS = f"/workspaces/{WORKSPACE}/models"


def call(
    api: Api, method: str, path: str, status: int = 200, *, role: str = "rest_admin", **options: Any
) -> Any:
    """One call with the status that is expected of it; its document."""
    answer = api.call(role, method, path, **options)
    assert answer.status_code == status, (method, path, answer.text)
    return answer.json() if answer.content else None


def train(api: Api, model: str, **options: Any) -> str:
    """Train to the end; returns the run's id."""
    run: str = call(api, "POST", f"{MODELS}/{model}/train", 202, json={"options": options})["run_id"]
    assert follow(api, run)[-1][2]["status"] in ("completed", "converged")
    return run


def as_json(value: Any) -> Any:
    """A value of the database as the API shows it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@pytest.mark.parametrize(
    ("part", "function"),
    [
        ("coefficients", "federated_coefficients"),
        ("roc", "federated_roc_curve"),
        ("calibration", "federated_calibration"),
        ("confusion", "federated_confusion_matrix"),
        ("importance", "federated_feature_importance"),
    ],
)
def test_figures_are_the_functions_rows(api: Api, trained: dict[str, Any], part: str, function: str) -> None:
    expected = [
        {name: as_json(value) for name, value in row.items()}
        for row in query(api, f"SELECT * FROM {function}('risk')")
    ]
    assert expected
    assert call(api, "GET", f"{MODEL}/{part}", role="rest_analyst") == expected
    assert call(api, "GET", f"{MODEL}/{part}?version=1", role="rest_auditor") == expected
    assert call(api, "GET", f"{MODEL}/{part}?version=9", 404)["sqlstate"] == "42704"
    del trained


def test_why_a_figure_is_not_known_is_in_the_head(api: Api, trained: dict[str, Any]) -> None:
    answer = api.call("rest_analyst", "GET", f"{MODEL}/coefficients")
    assert {one["std_error"] for one in answer.json()} == {None}
    said: list[str] = []
    with api.world.cluster.connect(api.world.database) as connection:
        connection.add_notice_handler(
            lambda notice: said.append(f"{notice.message_primary}: {notice.message_detail}")
        )
        connection.execute("SELECT * FROM federated_coefficients('risk')")
    assert len(said) == 1
    assert [unquote(one) for one in re.findall('%"([^"]*)"', answer.headers["X-Notice"])] == said
    for part in ("evaluate", "roc", "data_quality"):
        assert "X-Notice" not in api.call("rest_analyst", "GET", f"{MODEL}/{part}").headers
    del trained


def test_a_regression_has_errors_of_its_coefficients_and_no_classes(
    api: Api, trained: dict[str, Any]
) -> None:
    options = {
        "algorithm": "linear_regression",
        "features": ["age"],
        "target": "pressure",
        "optimizer": "newton",
    }
    call(api, "POST", MODELS, 201, json={"name": "line", "options": options})
    train(api, "line")
    shown = call(api, "GET", f"{MODELS}/line/coefficients", role="rest_analyst")
    assert shown == query(api, "SELECT * FROM federated_coefficients('line')")
    assert all(one["conf_low"] < one["estimate"] < one["conf_high"] for one in shown)
    assert call(api, "GET", f"{MODELS}/line/importance") == query(
        api, "SELECT * FROM federated_feature_importance('line')"
    )
    for part in ("roc", "calibration", "confusion"):
        assert call(api, "GET", f"{MODELS}/line/{part}", 409)["sqlstate"] == "55000"
    call(api, "DELETE", f"{MODELS}/line", 204)
    del trained


def test_data_quality_is_shown_of_a_model_and_of_all(api: Api, trained: dict[str, Any]) -> None:
    expected = [
        {"model_name": "risk", **row}
        for row in query(api, "SELECT * FROM federated_data_quality_check('risk')")
    ]
    assert [one["node_name"] for one in expected] == [None, "a", "b", "c"]
    call(api, "POST", MODELS, 201, json={"name": "untrained"})
    assert call(api, "GET", f"{MODEL}/data_quality") == expected
    assert call(api, "GET", f"/workspaces/{WORKSPACE}/data_quality") == expected
    assert call(api, "GET", f"{MODELS}/untrained/data_quality", 409)["sqlstate"] == "55000"
    call(api, "DELETE", f"{MODELS}/untrained", 204)
    del trained


def test_rounds_and_who_took_part_are_the_catalogs(api: Api, trained: dict[str, Any]) -> None:
    run = trained["run"]["run_id"]
    rounds = call(api, "GET", f"/runs/{run}/rounds", role="rest_analyst")
    assert [one["round_number"] for one in rounds] == [0, 1, 2]
    kept = query(api, "SELECT * FROM federated.round WHERE run_id = %s ORDER BY round_number", run)
    figures = ("global_loss", "global_accuracy", "base_loss", "global_precision", "node_variance")
    assert [[one[name] for name in figures] for one in rounds] == [
        [row[name] for name in figures] for row in kept
    ]
    metrics = query(api, "SELECT * FROM federated_training_metrics('risk', 1) ORDER BY round_number")
    shared = ("dropped_nodes", "communication_mb", "participating_nodes", "round_duration_seconds")
    assert [[one[name] for name in shared] for one in rounds] == [
        [row[name] for name in shared] for row in metrics
    ]
    assert call(api, "GET", f"/runs/{run}/rounds?limit=1&offset=2") == rounds[2:]
    parts = call(api, "GET", f"/runs/{run}/participation", role="rest_auditor")
    assert [(one["round_number"], one["node_name"]) for one in parts] == [
        (r, n) for r in range(3) for n in "abc"
    ]
    assert {(one["outcome"], one["took_part"], one["reason"]) for one in parts} == {("received", True, None)}
    [sums] = query(
        api, "SELECT sum(bytes_received)::bigint AS bytes FROM federated.participation WHERE run_id = %s", run
    )
    assert sum(one["bytes_received"] for one in parts) == sums["bytes"]


def test_runs_and_audit_are_listed_the_latest_first(api: Api, trained: dict[str, Any]) -> None:
    train(api, "risk", rounds=1)
    runs = call(api, "GET", "/runs", role="rest_analyst")
    assert [one["run"] for one in runs if one["model_name"] == "risk"][-2:] == [2, 1]
    assert call(api, "GET", f"/runs?workspace={WORKSPACE}&limit=1") == runs[:1]
    assert call(api, "GET", "/runs?workspace=none", 404)["sqlstate"] == "42704"
    entries = call(api, "GET", f"/workspaces/{WORKSPACE}/audit?limit=1000", role="rest_auditor")
    [kept] = query(
        api,
        "SELECT count(*) AS entries, max(recorded_at) AS latest FROM federated_audit_log WHERE workspace = %s",
        WORKSPACE,
    )
    assert (len(entries), datetime.fromisoformat(entries[0]["recorded_at"])) == (
        kept["entries"],
        kept["latest"],
    )
    times = [datetime.fromisoformat(one["recorded_at"]) for one in entries]
    assert times == sorted(times, reverse=True)
    assert entries[-1]["object_name"] == WORKSPACE
    assert {one["workspace"] for one in call(api, "GET", "/audit?limit=1000")} >= {WORKSPACE, ""}
    assert call(api, "GET", "/audit", 403, role="rest_analyst")["sqlstate"] == "42501"
    del trained


def test_what_rounds_cost_is_shown_the_latest_first(api: Api, trained: dict[str, Any]) -> None:
    for number, spent in enumerate((0.1, 0.15, 0.19)):
        query(
            api,
            "INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name, noise_multiplier,"
            " sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight)"
            " VALUES (%s, %s, 'risk', %s, 'step', 'a', 2, 1, 1, 0.1, 0.1, %s)",
            WORKSPACE, trained["run"]["run_id"], number, spent,
        )  # fmt: skip
    shown = call(api, "GET", f"/workspaces/{WORKSPACE}/budget/history", role="rest_analyst")
    assert [(one["round_number"], one["cumulative_epsilon"]) for one in shown] == [
        (2, 0.19),
        (1, 0.15),
        (0, 0.1),
    ]
    [kept] = query(api, "SELECT * FROM federated_privacy_history WHERE round_number = 2")
    assert {**shown[0], "timestamp": kept["timestamp"], "workspace_name": WORKSPACE} == kept
    assert datetime.fromisoformat(shown[0]["timestamp"]) == kept["timestamp"]


def test_a_workspace_and_its_nodes_are_changed_and_dropped(api: Api, trained: dict[str, Any]) -> None:
    call(api, "POST", "/workspaces", 201, json={"name": "draft", "options": {"min_nodes": 5}})
    changed = call(api, "PATCH", "/workspaces/draft", json={"options": {"min_nodes": None, "max_nodes": 7}})
    assert changed["min_nodes_required"] == 2
    [row] = query(api, "SELECT options FROM federated.workspace WHERE name = 'draft'")
    assert row["options"] == {"max_nodes": 7}
    refused = call(api, "PATCH", "/workspaces/draft", 422, json={"options": {"max_nodes": 8, "min_nodes": 0}})
    assert refused["sqlstate"] == "22023"
    call(api, "PATCH", "/workspaces/draft", 422, json={})
    call(api, "PATCH", "/workspaces/draft", 422, json={"options": {"no_such": None}})
    assert call(api, "PATCH", "/workspaces/draft", json={"name": "second draft"})["name"] == "second draft"
    draft = "/workspaces/second draft"
    certificate = str(api.world.federation.directory / "a.pem")
    options = {"endpoint": "https://localhost:1", "certificate": certificate}
    call(api, "POST", f"{draft}/nodes", 201, json={"name": "far", "options": options})
    call(api, "PATCH", f"{draft}/nodes/far", json={"options": {"endpoint": "https://localhost:2"}})
    [row] = query(api, "SELECT options FROM federated.node WHERE name = 'far'")
    assert row["options"]["endpoint"] == "https://localhost:2"
    assert call(api, "PATCH", f"{draft}/nodes/near", 404, json={"options": {"endpoint": "x"}})
    assert call(api, "DELETE", draft, 409)["sqlstate"] == "2BP01"
    assert (
        call(api, "DELETE", f"{draft}/nodes/far?cascade=true", 422)["errors"][0]["where"] == "query.cascade"
    )
    call(api, "DELETE", f"{draft}/nodes/far", 204)
    call(api, "POST", f"{draft}/models", 201, json={"name": "sketch"})
    call(api, "DELETE", f"{draft}?cascade=true", 204)
    call(api, "DELETE", draft, 404)
    assert query(api, "SELECT FROM federated.model WHERE name = 'sketch'") == []
    entries = call(api, "GET", f"{draft}/audit", role="rest_auditor")
    assert ("delete", "workspace", "rest_admin") in {
        (one["action"], one["object_kind"], one["acting_role"]) for one in entries
    }
    del trained


def test_a_model_changes_hands_and_names(api: Api, trained: dict[str, Any]) -> None:
    call(api, "POST", MODELS, 201, json={"name": "plan", "options": {"rounds": 3}})
    change = {"options": {"rounds": None, "seed": 5}, "name": "the plan"}
    changed = call(api, "PATCH", f"{MODELS}/plan", json=change)
    assert (changed["name"], changed["options"]) == ("the plan", {"seed": 5})
    call(api, "DELETE", f"{MODELS}/the plan", 403, role="rest_operator")
    taken = call(api, "PATCH", f"{MODELS}/the plan", 409, json={"options": {"seed": 6}, "name": "risk"})
    assert taken["sqlstate"] == "42710"
    assert call(api, "GET", f"{MODELS}/the plan")["options"] == {"seed": 5}, "both or neither"
    call(api, "PATCH", f"{MODELS}/the plan", 403, json={"owner": "rest_operator"})
    api.world.query("GRANT rest_operator TO rest_admin")
    assert (
        call(api, "PATCH", f"{MODELS}/the plan", json={"owner": "rest_operator"})["owner"] == "rest_operator"
    )
    api.world.query("REVOKE rest_operator FROM rest_admin")
    call(api, "DELETE", f"{MODELS}/the plan", 204, role="rest_operator")
    call(api, "GET", f"{MODELS}/the plan", 404)
    del trained


def test_training_is_stopped_and_taken_up_again(api: Api, trained: dict[str, Any]) -> None:
    assert call(api, "POST", f"{MODEL}/stop", 409)["sqlstate"] == "55000"
    body = {"options": {"rounds": 1000, "early_stopping_rounds": 1000}}
    run = call(api, "POST", f"{MODEL}/train", 202, json=body)["run_id"]
    asyncio.run(
        api.world.reached("EXISTS (SELECT FROM federated.round WHERE run_id = %s AND round_number = 2)", run)
    )
    for method, path in (("POST", f"{MODEL}/resume"), ("DELETE", MODEL), ("POST", f"{MODEL}/train")):
        busy = call(api, method, path, 409)
        assert (busy["sqlstate"], "in training" in busy["detail"]) == ("55006", True)
    assert call(api, "POST", f"{MODEL}/stop", 202)["run_id"] == run
    assert follow(api, run)[-1][2] == {"status": "stopped"}
    again = api.call("rest_admin", "POST", f"{MODEL}/resume")
    assert (again.status_code, again.json()["run_id"]) == (202, run), again.text
    assert again.headers["location"] == again.json()["run"]
    call(api, "POST", f"{MODEL}/stop", 202)
    assert follow(api, run)[-1][2] == {"status": "stopped"}
    del trained


def test_versions_are_tagged_promoted_and_dropped(api: Api, trained: dict[str, Any]) -> None:
    train(api, "risk", rounds=1)
    versions = call(api, "GET", f"{MODEL}/versions")
    newest = max(one["version"] for one in versions)
    assert call(api, "PUT", f"{MODEL}/tags/good", json={})["version"] == newest
    assert call(api, "PUT", f"{MODEL}/tags/good", 409, json={"version": 1})["sqlstate"] == "42710"
    assert call(api, "PUT", f"{MODEL}/tags/good", json={"version": 1, "replace": True})["version"] == 1
    assert call(api, "GET", f"{MODEL}/versions/good")["tags"] == ["good"]
    assert call(api, "POST", f"{MODEL}/versions/good/promote")["is_current"] is True
    assert call(api, "DELETE", f"{MODEL}/versions/1", 409)["sqlstate"] == "55000"
    assert call(api, "POST", f"{MODEL}/versions/{newest}/promote")["is_current"] is True
    assert call(api, "POST", f"{MODEL}/versions/99/promote", 404)["sqlstate"] == "42704"
    call(api, "DELETE", f"{MODEL}/tags/good", 204)
    call(api, "DELETE", f"{MODEL}/tags/good", 404)
    call(api, "DELETE", f"{MODEL}/versions/1", 204)
    call(api, "GET", f"{MODEL}/versions/1", 404)
    del trained


def test_an_experiment_serves_and_is_told_what_came_of_it(api: Api, trained: dict[str, Any]) -> None:
    train(api, "risk", rounds=1)
    first, second = sorted(one["version"] for one in call(api, "GET", f"{MODEL}/versions"))[-2:]
    arms = [{"version": str(first), "share": 0.5}, {"version": str(second), "share": 0.5}]
    body = {"name": "compare", "model": "risk", "arms": arms}
    made = call(api, "POST", "/experiments", 201, json=body | {"keep_days": 30})
    assert (made["model_name"], [arm["share"] for arm in made["arms"]]) == ("risk", [0.5, 0.5])
    assert made["keep_days"] == 30
    assert call(api, "GET", f"/experiments?workspace={WORKSPACE}", role="rest_auditor") == [made]
    person = {"age": 61, "pressure": 140}
    served = [
        call(
            api,
            "POST",
            "/experiments/compare/predict",
            role="rest_analyst",
            json={"key": f"k{n}", "features": person},
        )
        for n in range(20)
    ]
    for one in served:
        [row] = query(api, "SELECT federated_predict(%s, %s::jsonb) AS score", f"risk@{one['version']}", '{"age": 61, "pressure": 140}')  # fmt: skip
        assert one["score"] == row["score"]
    assert {one["version"] for one in served} == {first, second}
    call(
        api,
        "POST",
        "/experiments/compare/outcomes",
        204,
        role="rest_analyst",
        json={"key": "k1", "outcome": 1},
    )
    unknown = {"key": "never", "outcome": 1}
    call(api, "POST", "/experiments/compare/outcomes", 404, role="rest_analyst", json=unknown)
    standing = call(api, "GET", "/experiments/compare", role="rest_analyst")
    assert (sum(arm["calls"] for arm in standing), sum(arm["outcomes"] for arm in standing)) == (20, 1)
    assert standing == query(api, "SELECT * FROM federated_experiment('compare')")
    call(api, "DELETE", "/experiments/compare", 204)
    call(api, "GET", "/experiments/compare", 404)
    assert call(api, "POST", "/experiments", 201, json=body)["keep_days"] == 90
    call(api, "DELETE", "/experiments/compare", 204)
    del trained


def test_an_alert_is_made_and_dropped(api: Api, trained: dict[str, Any]) -> None:
    path = f"/workspaces/{WORKSPACE}/alerts"
    condition = {"metric": "global_loss", "operator": ">", "value": 99}
    body = {"name": "lost", "conditions": [condition], "target": "pg:lost"}
    made = call(api, "POST", path, 201, json=body)
    assert (made["alert_name"], made["status"], made["target"]) == ("lost", "armed", "pg:lost")
    assert call(api, "POST", path, 409, json=body)["sqlstate"] == "42710"
    call(api, "POST", path, 422, json={**body, "conditions": [{**condition, "metric": "no_such"}]})
    call(api, "DELETE", f"{path}/lost", 204)
    call(api, "DELETE", f"{path}/lost", 404)
    del trained


def test_an_erasure_is_asked_for_and_no_log_names_the_subject(api: Api, trained: dict[str, Any]) -> None:
    world = api.world
    with world.cluster.connect(world.database) as connection:
        connection.execute(
            psycopg.sql.SQL("ALTER DATABASE {} SET log_min_duration_statement = 0").format(
                psycopg.sql.Identifier(world.database)
            )
        )
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [LOGIN]
        )
    until_served(api)
    body = {
        "model": "risk",
        "subjects": ["patient-eins", "patient-zwei"],
        "options": {"method": "suppress_only"},
    }
    path = f"/workspaces/{WORKSPACE}/erasures"
    asked = call(api, "POST", path, 202, json=body)
    assert len({one["request_id"] for one in asked}) == 2
    assert {(one["model_name"], one["method"]) for one in asked} == {("risk", "suppress_only")}
    log = (world.cluster.directory / "log").read_text(errors="replace")
    assert "SEALED" in log
    assert "patient-" not in log
    for subjects in ([], [""], [" "], ["a\0b"], ["x" * 1_025]):
        refused = call(api, "POST", path, 422, json={**body, "subjects": subjects})
        assert "a\0b" not in str(refused)
    call(api, "POST", path, 403, role="rest_operator", json=body)
    waits = "SELECT count(*) AS n FROM federated_erasure_status WHERE status <> 'completed'"
    asyncio.run(
        api.world.reached("NOT EXISTS (SELECT FROM federated_erasure_status WHERE status <> 'completed')")
    )
    assert query(api, waits) == [{"n": 0}]
    shown = call(api, "GET", path, role="rest_auditor")
    assert {one["request_id"] for one in shown} == {one["request_id"] for one in asked}
    assert all(re.match("exact|approximate|incomplete", one["exactness"]) for one in shown)
    del trained

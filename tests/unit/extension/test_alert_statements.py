"""What statements about alerts ask of the catalog and write, and what they say: with a server that runs nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.extension.accepting_server import WORKSPACE, refused, run, server
from tests.unit.extension.fake_plpy import FakePlpy

CREATE = "CREATE FEDERATED ALERT a ON WORKSPACE w WHEN {} NOTIFY '{}'"
BREACH = "ALTER FEDERATED WORKSPACE w SET (breach_notify = '{}')"


def notifying(
    *, sends_mail: bool = True, calls_hooks: bool = True, allowed: tuple[str, ...] = (), **more: Any
) -> FakePlpy:
    told = {"sends_mail": sends_mail, "calls_hooks": calls_hooks, "allowed_hosts": list(allowed)}
    return server(find_notifier=[told], insert_alert=[{"alert_id": 1}], **more)


@pytest.mark.parametrize(
    "target", ["a@example.com", "https://example.com/in?token=x", "https://8.8.8.8/", "pg:c"]
)
def test_an_alert_is_its_conditions_and_its_target_as_they_were_written(target: str) -> None:
    plpy = notifying()

    assert run(plpy, CREATE.format("remaining_epsilon < 0.1 AND active_nodes <> 3", target)) is None

    [(name, (workspace, alert, conditions, told))] = plpy.written
    assert (name, workspace, alert, told) == ("insert_alert", 1, "a", target)
    assert json.loads(str(conditions)) == [
        {"metric": "remaining_epsilon", "operator": "<", "value": 0.1},
        {"metric": "active_nodes", "operator": "<>", "value": 3},
    ]
    assert plpy.said == []


@pytest.mark.parametrize(
    ("target", "told", "missing"),
    [
        ("a@example.com", {"sends_mail": False}, "the coordinator has no mail server (setting alerts.smtp): it cannot notify this address"),
        ("https://example.com/", {"calls_hooks": False},
         "the coordinator has no secret to sign calls with (setting alerts.webhook_secret): it cannot notify this address"),
        ("pg:heliosdb_federated", {}, "the coordinator itself listens on this channel: each notification has it look around"),
    ],
)  # fmt: skip
def test_a_target_that_cannot_be_notified_as_things_are_is_a_warning(
    target: str, told: dict[str, bool], missing: str
) -> None:
    plpy = notifying(**told)
    assert run(plpy, CREATE.format("active_nodes < 3", target)) is None
    assert plpy.said == [("warning", missing)]

    workspace = notifying(**told)
    assert run(workspace, BREACH.format(target)) is None
    assert workspace.said == [("warning", missing)]


def test_where_no_coordinator_was_yet_alerts_wait_for_one() -> None:
    plpy = server(insert_alert=[{"alert_id": 1}])

    assert run(plpy, CREATE.format("active_nodes < 3", "a@example.com")) is None
    assert plpy.said == [("warning", "no coordinator serves this database yet; alerts wait for one")]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "localhost", "a.internal"],
)
def test_a_host_within_a_network_is_refused_unless_the_coordinator_allows_it(host: str) -> None:
    target, name = f"https://{host}/in", host.strip("[]")
    for plpy in (notifying(), server()):
        error = refused(plpy, CREATE.format("active_nodes < 3", target))
        assert (error["sqlstate"], error["message"]) == ("22023", f"a webhook may not be called at {name}")
        assert (
            error["hint"] == "The coordinator's setting alerts.allowed_hosts names hosts that may be called."
        )
        assert refused(plpy, BREACH.format(target))["sqlstate"] == "22023"

    assert run(notifying(allowed=(name,)), CREATE.format("active_nodes < 3", target)) is None


@pytest.mark.parametrize(
    ("statement", "sqlstate", "told", "hint"),
    [
        (CREATE.format("remaining_epsilom < 1", "pg:c"), "22023", 'unrecognized metric "remaining_epsilom"', "Did you mean remaining_epsilon?"),
        (CREATE.format("zzz < 1", "pg:c"), "22023", 'unrecognized metric "zzz"', None),
        (CREATE.format("active_nodes < 1e999", "pg:c"), "22023", 'number "1e999" is out of range', None),
        (CREATE.format("active_nodes < NaN", "pg:c"), "42601", None, None),
        (CREATE.format("active_nodes < 'NaN'", "pg:c"), "42601", None, None),
        (CREATE.format("active_nodes < 1 OR active_nodes > 3", "pg:c"), "42601", None, None),
        (CREATE.format("active_nodes < 1", "a@example.com\r\nBcc: b@example.com"), "22023", "NOTIFY names no address that can be notified", None),
        (CREATE.format("active_nodes < 1", "http://example.com"), "22023", "NOTIFY names no address that can be notified", None),
        (BREACH.format("http://example.com"), "22023", 'invalid value for option "breach_notify": \'http://example.com\'', None),
    ],
)  # fmt: skip
def test_what_is_wrong_gets_its_error(
    statement: str, sqlstate: str, told: str | None, hint: str | None
) -> None:
    error = refused(notifying(), statement)

    assert error["sqlstate"] == sqlstate
    assert told is None or error["message"] == told
    assert hint is None or error["hint"] == hint


def test_a_workspace_that_is_not_there_or_anothers_has_no_alerts() -> None:
    missing = refused(server(find_workspace=[]), CREATE.format("active_nodes < 3", "pg:c"))
    others = refused(
        server(find_workspace=[{**WORKSPACE, "owned": False}]), CREATE.format("active_nodes < 3", "pg:c")
    )

    assert (missing["sqlstate"], missing["message"]) == ("42704", 'federated workspace "w" does not exist')
    assert (others["sqlstate"], others["message"]) == ("42501", 'must be owner of federated workspace "w"')


def test_a_name_that_is_taken_is_an_error_or_skipped() -> None:
    plpy = notifying()
    plpy.answers["insert_alert"] = []

    error = run(plpy, CREATE.format("active_nodes < 3", "pg:c"))
    assert error is not None
    assert (error["sqlstate"], error["message"]) == ("42710", 'federated alert "a" already exists')
    assert (
        run(plpy, CREATE.format("active_nodes < 3", "pg:c").replace("ALERT", "ALERT IF NOT EXISTS")) is None
    )
    assert plpy.said == [("notice", 'federated alert "a" already exists, skipping')]


def named(*workspaces: str, owned: bool = True) -> list[dict[str, object]]:
    return [
        {"alert_id": place, "workspace": name, "owned": owned} for place, name in enumerate(workspaces, 1)
    ]


def test_an_alert_is_dropped_by_its_name_where_that_is_enough() -> None:
    one = server(list_alerts_named=named("v"), delete_alert=[{}])
    two = server(list_alerts_named=named("v", "w"), delete_alert=[{}])

    assert run(one, "DROP FEDERATED ALERT a") is None
    assert run(two, "DROP FEDERATED ALERT a ON WORKSPACE w") is None
    assert one.written == [("delete_alert", (1,))]
    assert two.written == [("delete_alert", (2,))]

    error = refused(server(list_alerts_named=named("v", "w")), "DROP FEDERATED ALERT a")
    assert (error["sqlstate"], error["message"]) == ("22023", 'federated alert "a" is not unique')
    assert error["detail"] == "Workspaces that have one: v, w."


def test_an_alert_that_is_not_there_or_anothers_is_not_dropped() -> None:
    for plpy in (server(), server(list_alerts_named=named("v"))):
        error = refused(plpy, "DROP FEDERATED ALERT a ON WORKSPACE w")
        assert (error["sqlstate"], error["message"]) == ("42704", 'federated alert "a" does not exist')
    skipping = server()
    assert run(skipping, "DROP FEDERATED ALERT IF EXISTS a") is None
    assert skipping.said == [("notice", 'federated alert "a" does not exist, skipping')]
    nowhere = refused(server(find_workspace=[]), "DROP FEDERATED ALERT a ON WORKSPACE nothing")
    assert (nowhere["sqlstate"], nowhere["message"]) == (
        "42704",
        'federated workspace "nothing" does not exist',
    )
    others = refused(server(list_alerts_named=named("w", owned=False)), "DROP FEDERATED ALERT a")
    assert (others["sqlstate"], others["message"]) == ("42501", 'must be owner of federated alert "a"')

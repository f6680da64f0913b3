"""What statements about subscriptions ask of the catalog and write, and what they say: with a server that runs nothing."""

from __future__ import annotations

import pytest

from tests.unit.extension.accepting_server import NODE, refused, run, server


@pytest.mark.parametrize(
    ("options", "wanted", "auto"),
    [
        ("", None, True),
        (" WITH (version = latest)", None, True),
        (" WITH (version = 'LATEST', auto = on)", None, True),
        (" WITH (version = 3, auto = false)", "3", False),
        (" WITH (version = '007')", "7", True),
        (" WITH (version = 'prod')", "prod", True),
    ],
)
def test_a_subscription_is_what_is_wanted(options: str, wanted: str | None, auto: bool) -> None:
    plpy = server()
    assert run(plpy, f"CREATE FEDERATED SUBSCRIPTION s TO MODEL m IN WORKSPACE w{options}") is None
    assert plpy.written == [("insert_subscription", ("s", "w", "m", wanted, auto))]


def test_only_what_is_named_is_altered() -> None:
    plpy = server()
    for statement in ("SET (version = 'prod')", "SET (auto = false)", "RESET (version, auto)", "REFRESH"):
        assert run(plpy, f"ALTER FEDERATED SUBSCRIPTION s {statement}") is None
    assert plpy.written == [
        ("choose_version", (5, "prod")), ("choose_auto", (5, False)), ("choose_version", (5, None)),
        ("choose_auto", (5, True)), ("refresh_subscription", (5,)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("statement", "sqlstate", "told", "hint"),
    [
        ("CREATE FEDERATED SUBSCRIPTION s TO MODEL \"m@1\" IN WORKSPACE w", "42602",
         "a subscription names a model without a version", "WITH (version = 'tag') says which version is wanted."),
        ("CREATE FEDERATED SUBSCRIPTION s TO MODEL m", "42601", "syntax error at end of input", None),
        ("CREATE FEDERATED SUBSCRIPTION s TO MODEL m IN WORKSPACE w WITH (version = 0)", "22023",
         'invalid value for option "version": 0', None),
        ("ALTER FEDERATED SUBSCRIPTION s SET (version = 2147483648)", "22023",
         'invalid value for option "version": 2147483648', None),
        ("ALTER FEDERATED SUBSCRIPTION s SET (version = 1.5)", "22023", 'invalid value for option "version": 1.5', None),
        ("ALTER FEDERATED SUBSCRIPTION s SET (version = true)", "22023", 'invalid value for option "version": true', None),
        ("ALTER FEDERATED SUBSCRIPTION s SET (version = 'a@b')", "22023", "invalid value for option \"version\": 'a@b'", None),
        ("ALTER FEDERATED SUBSCRIPTION s SET (version = '')", "22023", "invalid value for option \"version\": ''", None),
        ("GRANT FEDERATED SUBSCRIBE ON MODEL m TO NODE 'x'", "42704", 'federated node "x" does not exist',
         "REGISTER FEDERATED NODE 'x' IN WORKSPACE w ..."),
        ("GRANT FEDERATED SUBSCRIBE ON MODEL m TO alice", "42601", 'syntax error at or near "alice"',
         "A model is granted TO NODE 'name' or TO ALL NODES, and revoked FROM them."),
        ("REVOKE FEDERATED SUBSCRIBE ON MODEL m FROM NODE n", "42601", None, "A node name is a string, in single quotes."),
    ],
)  # fmt: skip
def test_what_is_wrong_gets_its_error(
    statement: str, sqlstate: str, told: str | None, hint: str | None
) -> None:
    error = refused(server(), statement)
    assert error["sqlstate"] == sqlstate
    assert told is None or error["message"] == told
    assert hint is None or error["hint"] == hint


def test_a_name_that_is_taken_and_one_that_is_missing_are_errors_unless_they_may_be() -> None:
    plpy = server(insert_subscription=[], lock_subscription=[])
    error = run(plpy, "CREATE FEDERATED SUBSCRIPTION s TO MODEL m IN WORKSPACE w")
    assert error is not None
    assert error["sqlstate"] == "42710"
    assert run(plpy, "CREATE FEDERATED SUBSCRIPTION IF NOT EXISTS s TO MODEL m IN WORKSPACE w") is None
    assert plpy.said.pop() == ("notice", 'federated subscription "s" already exists, skipping')
    for statement in ("ALTER FEDERATED SUBSCRIPTION{} s REFRESH", "DROP FEDERATED SUBSCRIPTION{} s"):
        error = run(plpy, statement.format(""))
        assert error is not None
        assert error["sqlstate"] == "42704"
        assert run(plpy, statement.format(" IF EXISTS")) is None
        assert plpy.said.pop() == ("notice", 'federated subscription "s" does not exist, skipping')


def test_drop_takes_dependents_along_only_when_told_to() -> None:
    plpy = server()
    run(plpy, "DROP FEDERATED SUBSCRIPTION s")
    run(plpy, "DROP FEDERATED SUBSCRIPTION s CASCADE")
    assert [values for name, values in plpy.written if name == "set_drop_behavior"] == [
        ("restrict",), ("restrict",), ("cascade",), ("restrict",),
    ]  # fmt: skip


def test_revoke_says_what_it_does_not_end() -> None:
    plpy = server(
        list_grants=[{"node": None}, {"node": "o"}],
        list_keepers=[{"node": "n", "version": 3}],
        list_nodes=[NODE],
    )
    run(plpy, "REVOKE FEDERATED SUBSCRIBE ON MODEL m FROM NODE 'n'")
    assert plpy.said == [
        ("warning", 'node "n" may subscribe to federated model "m" as all nodes may:'
                    " REVOKE FEDERATED SUBSCRIBE ON MODEL m FROM ALL NODES ends that"),
        ("notice", 'node "n" keeps version 3 of federated model "m", which it has; later versions are not offered to it'),
    ]  # fmt: skip
    plpy = server(list_grants=[{"node": "o"}], revoke_subscribe=[])
    run(plpy, "REVOKE FEDERATED SUBSCRIBE ON MODEL m FROM ALL NODES")
    assert plpy.said == [
        ("warning", 'federated model "m" was not granted to ALL NODES'),
        ("notice", 'federated model "m" is granted by name to "o"'),
    ]


def test_a_node_that_is_unregistered_keeps_what_it_has() -> None:
    nodes = [{**NODE, "name": name} for name in "nop"]
    plpy = server(list_nodes=nodes, list_node_subscriptions=[{"model": "risk"}, {"model": "stay"}])
    run(plpy, "UNREGISTER FEDERATED NODE 'n' FROM WORKSPACE w")
    assert plpy.said == [
        ("notice", 'node "n" keeps the versions that it has of federated models "risk", "stay"')
    ]

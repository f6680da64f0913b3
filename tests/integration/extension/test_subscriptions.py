"""What is trained in one database predicts in another, as its own DBA says; what is wrong is one clear error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

from tests.integration.extension.subscriptions_support import CALL, Sides, subscribed
from tests.integration.extension.versions_support import execute, finish_run, functions, notices_of, value
from tests.support.cluster import Cluster
from tests.support.delivery import HEAR, register, report, take


@pytest.fixture
def sides(cluster: Cluster, trained: psycopg.Connection) -> Iterator[Sides]:
    with subscribed(cluster, trained) as both:
        yield both


def raised(session: psycopg.Connection, statement: str) -> psycopg.errors.Diagnostic:
    with pytest.raises(psycopg.Error) as caught:
        execute(session, statement)
    return caught.value.diag


def test_a_version_predicts_where_it_was_delivered(sides: Sides) -> None:
    assert sides.state() == ("unheard", None, None)
    assert sides.deliver() == [None]

    assert sides.state() == ("current", 2, 2)
    assert sides.seen() == [("north", "s", True, "current", 2, 2)]
    assert value(sides.here, CALL) == value(sides.there, CALL)
    assert functions(sides.here) == ["risk", "risk@2"]
    assert value(sides.here, "federated_predict('risk@002', '{\"age\": 10}')") == value(
        sides.there, "federated_predict('risk', '{\"age\": 10}')"
    )
    assert sides.deliver() == []
    [(lag, signed_by, signature, sha256)] = sides.here.execute(
        "SELECT lag, signed_by, signature, sha256 FROM federated_subscriptions"
    ).fetchall()
    assert lag is None
    assert [len(one) for one in (signed_by, sha256)] == [64, 64]
    assert bytes.fromhex(signature) == b"signature"


def test_before_a_version_is_here_the_function_says_so(sides: Sides) -> None:
    with sides.cluster.connect(sides.here.info.dbname, user="an_analyst") as analyst:
        for call in (
            CALL,
            "federated_model.risk()",
            "predict('risk', ARRAY[1.0])",
            "federated_predict_class('risk')",
        ):
            with pytest.raises(
                errors.ObjectNotInPrerequisiteState, match="no version in this database yet"
            ) as caught:
                value(analyst, call)
            assert "federated_subscriptions" in str(caught.value.diag.message_hint)
    with pytest.raises(errors.UndefinedObject) as unheld:
        value(sides.here, "federated_predict('risk@3', '{}')")
    assert unheld.value.diag.message_detail == "Its subscription has received none yet."


def test_versions_that_are_not_held_are_named_by_an_error(sides: Sides) -> None:
    sides.deliver()
    for label in ("1", "prod", "99999999999999999999"):
        with pytest.raises(errors.UndefinedObject, match=f'no version "{label}"') as caught:
            value(sides.here, f"federated_predict('risk@{label}', '{{}}')")
        assert caught.value.diag.message_detail == "Held: 2."
    for call in (
        "federated_model_versions('risk')",
        "federated_evaluate('risk')",
        "federated_training_status('risk', 1)",
    ):
        with pytest.raises(errors.WrongObjectType, match="only subscribed to") as found:
            sides.here.execute(f"SELECT * FROM {call}")  # type: ignore[arg-type]
        assert "federated_evaluate('risk', 'SELECT ...')" in str(found.value.diag.message_hint)
    for statement in ("START FEDERATED TRAINING risk", "TAG FEDERATED MODEL risk AS 'prod'"):
        missing = raised(sides.here, statement)
        assert missing.sqlstate == "42704"
        assert "only subscribed to" in str(missing.message_hint)


def test_what_nothing_depends_on_goes_with_the_next_version(sides: Sides, daemon: psycopg.Connection) -> None:
    sides.deliver()
    finish_run(sides.there, daemon, intercept=7.25)
    sides.deliver()

    assert functions(sides.here) == ["risk", "risk@3"]
    assert value(sides.here, CALL) == value(sides.there, CALL)


def test_a_version_that_something_depends_on_stays_by_its_number(
    sides: Sides, daemon: psycopg.Connection
) -> None:
    sides.deliver()
    before = value(sides.here, CALL)
    sides.here.execute(
        "CREATE TABLE p (age float8, smoker boolean); INSERT INTO p VALUES (10, true);"
        'CREATE VIEW v AS SELECT federated_model."risk@2"(age, smoker) AS y FROM p;'
        "CREATE VIEW w AS SELECT federated_model.risk(age, smoker) AS y FROM p"
    )
    finish_run(sides.there, daemon, intercept=7.25)
    sides.deliver()

    assert functions(sides.here) == ["risk", "risk@2", "risk@3"]
    assert value(sides.here, "y FROM v") == before
    assert value(sides.here, "y FROM w") == value(sides.there, CALL)
    execute(sides.there, "ROLLBACK FEDERATED MODEL risk TO VERSION 2")
    assert sides.deliver() == [None]
    assert sides.state() == ("current", 2, 2)
    assert functions(sides.here) == ["risk", "risk@2"]
    assert value(sides.here, CALL) == before


def test_another_signature_waits_until_nothing_depends_on_the_former(
    sides: Sides, daemon: psycopg.Connection
) -> None:
    sides.deliver()
    sides.here.execute(
        "CREATE TABLE p (age float8, smoker boolean);"
        "CREATE VIEW w AS SELECT federated_model.risk(age, smoker) AS y FROM p"
    )
    before = value(sides.here, CALL)
    finish_run(
        sides.there, daemon, features=["age"], booleans=[False], slopes=[1.0], fills=[0.0], shifts=[0.0]
    )
    [obstacle] = sides.deliver()

    assert obstacle is not None
    assert "view public.w depends on function federated_model.risk" in obstacle
    assert "ALTER FEDERATED SUBSCRIPTION s REFRESH" in obstacle
    assert sides.state() == ("refused", 2, 3)
    assert sides.seen() == [("north", "s", True, "refused", 2, 3)]
    assert value(sides.here, "message FROM federated_subscriptions") == obstacle
    assert value(sides.here, CALL) == before
    assert sides.deliver() == []
    sides.here.execute("DROP VIEW w")
    assert sides.deliver() == []
    execute(sides.here, "ALTER FEDERATED SUBSCRIPTION s REFRESH")
    assert sides.deliver() == [None]
    assert sides.state() == ("current", 3, 3)


def test_an_earlier_version_comes_back_when_it_is_current_there(sides: Sides) -> None:
    sides.deliver()
    execute(sides.there, "ROLLBACK FEDERATED MODEL risk TO VERSION 1")
    assert sides.deliver() == [None]
    assert sides.state() == ("current", 1, 1)
    assert functions(sides.here) == ["risk", "risk@1"]
    assert value(sides.here, CALL) == value(sides.there, CALL)


def test_a_tag_is_followed_and_a_number_waits(sides: Sides, daemon: psycopg.Connection) -> None:
    execute(sides.here, "ALTER FEDERATED SUBSCRIPTION s SET (version = 'prod')")
    assert sides.deliver() == []
    assert sides.state() == ("waiting", None, None)
    assert value(sides.here, "message FROM federated_subscriptions") == 'no version has the tag "prod" yet'
    execute(sides.there, "TAG FEDERATED MODEL risk VERSION 1 AS 'prod'")
    assert sides.deliver() == [None]
    assert sides.state() == ("current", 1, 1)
    execute(sides.there, "TAG FEDERATED MODEL risk VERSION 2 AS 'prod' REPLACE")
    assert sides.deliver() == [None]
    assert sides.state() == ("current", 2, 2)
    execute(sides.here, "ALTER FEDERATED SUBSCRIPTION s SET (version = 3)")
    assert sides.deliver() == []
    assert sides.state() == ("waiting", 2, None)
    finish_run(sides.there, daemon)
    assert sides.deliver() == [None]
    assert sides.state() == ("current", 3, 3)


def test_without_auto_a_later_version_waits_for_refresh(sides: Sides, daemon: psycopg.Connection) -> None:
    execute(sides.here, "ALTER FEDERATED SUBSCRIPTION s SET (auto = false)")
    assert sides.deliver() == [None]
    finish_run(sides.there, daemon)
    assert sides.deliver() == []
    assert sides.state() == ("behind", 2, 3)
    [(message, lag)] = sides.here.execute("SELECT message, lag > '0' FROM federated_subscriptions").fetchall()
    assert message == "auto is false: ALTER FEDERATED SUBSCRIPTION s REFRESH takes it"
    assert lag
    assert value(sides.there, "message FROM federated_subscribers").startswith(
        "its DBA has later versions wait"
    )
    execute(sides.here, "ALTER FEDERATED SUBSCRIPTION s REFRESH")
    assert sides.deliver() == [None]
    finish_run(sides.there, daemon)
    assert sides.deliver() == []
    assert sides.state() == ("behind", 3, 4)


def test_what_is_not_granted_and_what_there_is_not_look_the_same(sides: Sides) -> None:
    execute(sides.here, "CREATE FEDERATED SUBSCRIPTION t TO MODEL nothing IN WORKSPACE clinics")
    execute(sides.there, "REVOKE FEDERATED SUBSCRIBE ON MODEL risk FROM ALL NODES")
    assert sides.deliver() == []
    said = sides.here.execute(
        "SELECT state, message, available_version FROM federated_subscriptions"
    ).fetchall()
    assert said == [("unknown", said[0][1], None)] * 2
    execute(sides.there, "GRANT FEDERATED SUBSCRIBE ON MODEL risk TO NODE 'north'")
    assert sides.deliver() == [None]
    assert sides.state() == ("current", 2, 2)


def test_revoke_leaves_what_was_delivered_and_says_so(sides: Sides, daemon: psycopg.Connection) -> None:
    sides.deliver()
    heard = notices_of(sides.there)
    execute(sides.there, "REVOKE FEDERATED SUBSCRIBE ON MODEL risk FROM NODE 'north'")
    assert [one.split(":")[0] for one in heard] == [
        'federated model "risk" was not granted to node "north"',
        'node "north" may subscribe to federated model "risk" as all nodes may',
    ]
    heard.clear()
    execute(sides.there, "REVOKE FEDERATED SUBSCRIBE ON MODEL risk FROM ALL NODES")
    assert heard == [
        'node "north" keeps version 2 of federated model "risk", which it has; later versions are not offered to it'
    ]
    finish_run(sides.there, daemon)
    before = value(sides.here, CALL)
    assert sides.deliver() == []
    assert sides.state() == ("unknown", 2, None)
    assert value(sides.here, CALL) == before
    # What is not granted holds nothing up.
    execute(sides.there, "DROP FEDERATED MODEL risk")


def test_a_model_of_another_workspace_is_not_offered(sides: Sides) -> None:
    execute(sides.there, "CREATE FEDERATED WORKSPACE others")
    register(sides.there, "north_too", "others")
    with sides.cluster.connect(sides.there.info.dbname, user="heliosdb_daemon") as daemon:
        report(daemon, sides.here, "north_too")
    assert (
        value(sides.there, "outcome FROM federated._pending_deliveries() WHERE node_name = 'north_too'")
        == "unknown"
    )


@pytest.mark.parametrize(
    ("prepare", "statement", "sqlstate", "told"),
    [
        ("", "CREATE FEDERATED SUBSCRIPTION t TO MODEL risk IN WORKSPACE clinics", "42710",
         'federated model "risk" is subscribed to already'),
        ("", "CREATE FEDERATED SUBSCRIPTION s TO MODEL other IN WORKSPACE clinics", "42710",
         'federated subscription "s" already exists'),
        ("CREATE FEDERATED WORKSPACE w; CREATE FEDERATED MODEL other IN WORKSPACE w",
         "CREATE FEDERATED SUBSCRIPTION t TO MODEL other IN WORKSPACE clinics", "42710",
         'federated model "other" already exists in this database'),
        ("CREATE FEDERATED WORKSPACE w", "CREATE FEDERATED MODEL risk IN WORKSPACE w", "42710",
         'federated model "risk" is subscribed to in this database'),
        ("CREATE FEDERATED WORKSPACE w; CREATE FEDERATED MODEL other IN WORKSPACE w",
         "ALTER FEDERATED MODEL other RENAME TO risk", "42710", 'federated model "risk" is subscribed to in this database'),
        ("", "CREATE FEDERATED SUBSCRIPTION t TO MODEL mine IN WORKSPACE clinics", "42723",
         "function federated_model.mine() already exists and belongs to no federated model"),
        ("", "DROP FEDERATED SUBSCRIPTION t", "42704", 'federated subscription "t" does not exist'),
        ("", "START FEDERATED TRAINING risk", "42704", 'federated model "risk" does not exist'),
    ],
)  # fmt: skip
def test_names_that_are_taken_are_one_clear_error(
    sides: Sides, prepare: str, statement: str, sqlstate: str, told: str
) -> None:
    sides.here.execute("CREATE FUNCTION federated_model.mine() RETURNS float8 LANGUAGE sql RETURN 1")
    execute(sides.here, *filter(None, prepare.split("; ")))
    found = raised(sides.here, statement)
    assert (found.sqlstate, found.message_primary) == (sqlstate, told)


def test_drop_takes_functions_along_and_dependents_only_by_cascade(sides: Sides) -> None:
    sides.deliver()
    sides.here.execute(
        "CREATE TABLE p (age float8, smoker boolean);"
        "CREATE VIEW w AS SELECT federated_model.risk(age, smoker) AS y FROM p"
    )
    assert raised(sides.here, "DROP FEDERATED SUBSCRIPTION s").sqlstate == "2BP01"
    assert sides.state() == ("current", 2, 2)
    execute(sides.here, "DROP FEDERATED SUBSCRIPTION s CASCADE")
    assert functions(sides.here) == []
    assert value(sides.here, "to_regclass('w')") is None
    assert value(sides.here, "count(*) FROM federated.delivered_version") == 0
    assert sides.deliver() == []
    assert sides.seen() == []
    execute(sides.here, "CREATE FEDERATED SUBSCRIPTION s TO MODEL risk IN WORKSPACE clinics")
    assert sides.deliver() == [None]


def test_what_a_node_subscribes_to_is_dropped_only_by_cascade(sides: Sides) -> None:
    execute(sides.here, "ALTER FEDERATED SUBSCRIPTION s SET (version = 'prod')")
    execute(sides.there, "TAG FEDERATED MODEL risk VERSION 1 AS 'prod'")
    sides.deliver()
    for statement in (
        "DROP FEDERATED MODEL risk TAG 'prod'", "DROP FEDERATED MODEL risk", "ALTER FEDERATED MODEL risk RENAME TO other",
    ):  # fmt: skip
        found = raised(sides.there, statement)
        assert found.sqlstate == "2BP01"
        assert found.message_detail == 'subscription "s" of node "north"'
    assert raised(sides.there, "DROP FEDERATED MODEL risk VERSION 1").sqlstate == "2BP01"
    execute(sides.here, "ALTER FEDERATED SUBSCRIPTION s SET (version = 1)")
    sides.deliver()
    execute(sides.there, "DROP FEDERATED MODEL risk TAG 'prod'")
    found = raised(sides.there, "DROP FEDERATED MODEL risk VERSION 1")
    assert (found.sqlstate, found.message_detail) == ("2BP01", 'subscription "s" of node "north"')
    heard = notices_of(sides.there)
    execute(sides.there, "DROP FEDERATED MODEL risk VERSION 1 CASCADE")
    assert heard == ["nodes that subscribe keep what they have, and get no later version of it"]
    before = value(sides.here, CALL)
    assert sides.deliver() == []
    assert sides.state() == ("waiting", 1, None)
    assert value(sides.here, "message FROM federated_subscriptions") == "version 1 was dropped"
    assert (
        raised(sides.there, "PROMOTE FEDERATED MODEL risk VERSION 1").message_detail
        == "Version 1 was dropped."
    )
    execute(sides.there, "DROP FEDERATED WORKSPACE clinics CASCADE")
    assert value(sides.here, CALL) == before
    assert value(sides.there, "count(*) FROM federated.subscriber") == 0


def test_a_renamed_model_is_not_one_that_nodes_wait_for(sides: Sides) -> None:
    execute(
        sides.there,
        "REVOKE FEDERATED SUBSCRIBE ON MODEL risk FROM ALL NODES",
        "ALTER FEDERATED MODEL risk RENAME TO other",
        "GRANT FEDERATED SUBSCRIBE ON MODEL other TO ALL NODES",
    )
    assert sides.deliver() == []
    assert sides.state() == ("unknown", None, None)


def test_a_version_of_a_release_that_kept_no_numbers_cannot_travel(
    sides: Sides, daemon: psycopg.Connection
) -> None:
    sides.there.execute("UPDATE federated.version SET prediction = NULL")
    assert sides.deliver() == []
    assert sides.state() == ("unavailable", None, None)
    assert (
        value(sides.here, "message FROM federated_subscriptions")
        == "version 2 was made by a release that kept no numbers"
    )


def test_only_its_owner_changes_a_subscription(sides: Sides, cluster: Cluster) -> None:
    with cluster.connect(sides.here.info.dbname, user="an_admin") as admin:
        for statement in (
            "ALTER FEDERATED SUBSCRIPTION s SET (auto = false)",
            "DROP FEDERATED SUBSCRIPTION s",
        ):
            assert raised(admin, statement).sqlstate == "42501"
        for change in (
            "UPDATE federated.subscription SET wanted = 'x'",
            "DELETE FROM federated.subscription",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                admin.execute(change)  # type: ignore[arg-type]
        execute(admin, "CREATE FEDERATED SUBSCRIPTION own TO MODEL other IN WORKSPACE clinics")
        execute(admin, "ALTER FEDERATED SUBSCRIPTION own RESET (version)", "DROP FEDERATED SUBSCRIPTION own")


def test_only_a_models_owner_grants_it(sides: Sides, cluster: Cluster) -> None:
    sides.there.execute("CREATE ROLE a_stranger LOGIN IN ROLE federated_operator")
    try:
        with cluster.connect(sides.there.info.dbname, user="a_stranger") as stranger:
            assert (
                raised(stranger, "GRANT FEDERATED SUBSCRIBE ON MODEL risk TO NODE 'north'").sqlstate
                == "42501"
            )
            with pytest.raises(errors.InsufficientPrivilege):
                stranger.execute("DELETE FROM federated.subscribe_grant")
        with cluster.connect(sides.there.info.dbname, user="an_operator") as owner:
            execute(owner, "GRANT FEDERATED SUBSCRIBE ON MODEL risk TO NODE 'north'")
            execute(owner, "GRANT FEDERATED SUBSCRIBE ON MODEL risk TO NODE 'north'")
            execute(owner, "REVOKE FEDERATED SUBSCRIBE ON MODEL risk FROM NODE 'north'")
            owner.execute(
                "INSERT INTO federated.subscribe_grant (model_id, node_id, name)"
                " SELECT m.model_id, n.node_id, 'another' FROM federated.model AS m, federated.node AS n"
                " WHERE m.name = 'risk' AND n.name = 'north'"
            )
        grants = sides.there.execute("SELECT name FROM federated.subscribe_grant ORDER BY name").fetchall()
        assert grants == [("ALL NODES",), ("north",)]
    finally:
        sides.there.execute("DROP ROLE a_stranger")


def test_who_granted_and_who_subscribed_is_in_the_audit_log(sides: Sides) -> None:
    execute(sides.there, "REVOKE FEDERATED SUBSCRIBE ON MODEL risk FROM ALL NODES")
    execute(
        sides.here, "ALTER FEDERATED SUBSCRIPTION s SET (version = 'prod')", "DROP FEDERATED SUBSCRIPTION s"
    )
    log = "SELECT action, object_name FROM federated_audit_log WHERE object_kind = %s ORDER BY chain_position"
    assert sides.there.execute(log, ["subscribe_grant"]).fetchall() == [
        ("insert", "ALL NODES"),
        ("delete", "ALL NODES"),
    ]
    assert sides.here.execute(log, ["subscription"]).fetchall() == [
        ("insert", "s"),
        ("update", "s"),
        ("delete", "s"),
    ]
    assert value(sides.here, "is_intact FROM federated_audit_verify('clinics')")


def test_an_unregistered_node_keeps_what_it_has(sides: Sides) -> None:
    sides.deliver()
    heard = notices_of(sides.there)
    execute(sides.there, "UNREGISTER FEDERATED NODE 'north' FROM WORKSPACE clinics")
    assert heard == [
        'federated workspace "clinics" has 0 nodes left, and a run needs 3 (min_nodes)',
        'node "north" keeps the versions that it has of federated models "risk"',
    ]
    assert sides.seen() == []


def test_what_was_not_offered_is_not_taken(sides: Sides, cluster: Cluster) -> None:
    sides.deliver()
    offer: dict[str, Any] = {
        "name": "s", "workspace": "clinics", "model_name": "risk", "wanted": None, "outcome": "offered", "version": 7,
        "version_key": "11111111-2222-4333-8444-555555555555", "reason": None,
    }  # fmt: skip
    with cluster.connect(sides.here.info.dbname, user="heliosdb_daemon") as node:
        for changed, sqlstate in (
            ({"name": "t"}, "55000"), ({"workspace": "others"}, "55000"), ({"model_name": "x"}, "55000"), ({"wanted": "1"}, "55000"),
            ({"outcome": "nonsense"}, "22023"), ({"outcome": None}, "22023"), ({"version": None}, "22023"), ({"version": -1}, "22023"),
            ({"outcome": "waiting"}, "22023"),
        ):  # fmt: skip
            with pytest.raises(psycopg.Error) as caught:
                node.execute(HEAR, offer | changed)
            assert caught.value.sqlstate == sqlstate
        content = {
            "features": ["a"],
            "contract": "{}",
            "prediction": "{}",
            "prediction_arrays": None,
            "sha256": bytes(32),
        }
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="was not offered"):
            take(node, {**offer, **content})
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="was not offered"):
            node.execute("SELECT federated._refuse_version('s', %s, 'x')", [offer["version_key"]])
        [(takes,)] = node.execute(HEAR, offer | {"reason": "a\nb" * 5000}).fetchall()
        assert takes
        node.execute("SELECT federated._refuse_version('s', %s, %s)", [offer["version_key"], "no\n" * 5000])
    assert sides.state() == ("refused", 2, 7)
    assert len(value(sides.here, "message FROM federated_subscriptions")) == 1000


def test_a_thousand_subscriptions_are_the_most(sides: Sides) -> None:
    sides.here.execute(
        "INSERT INTO federated.subscription (name, workspace, model_name)"
        " SELECT 's' || n, 'clinics', 'm' || n FROM generate_series(2, 1000) AS n"
    )
    assert (
        raised(sides.here, "CREATE FEDERATED SUBSCRIPTION t TO MODEL t IN WORKSPACE clinics").sqlstate
        == "54000"
    )
    execute(sides.here, "CREATE FEDERATED SUBSCRIPTION t TO MODEL t IN WORKSPACE others")

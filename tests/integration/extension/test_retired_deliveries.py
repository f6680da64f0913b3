"""A version that an erasure retired predicts nothing where it was delivered either, until another one is there."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from tests.integration.extension.subscriptions_support import CALL, Sides, subscribed
from tests.integration.extension.versions_support import execute, finish_run, functions, value
from tests.support.cluster import Cluster
from tests.support.delivery import WITHDRAW, offers, report


@pytest.fixture
def sides(cluster: Cluster, trained: psycopg.Connection) -> Iterator[Sides]:
    with subscribed(cluster, trained) as both:
        yield both


def retire(sides: Sides, version: int) -> None:
    """Do with a version what an erasure does in the end."""
    sides.there.execute(
        "UPDATE federated.version SET is_current = false, retired_at = clock_timestamp(), prediction = NULL,"
        " prediction_arrays = NULL, sealed = '', scaling = '{}' WHERE version = %s",
        [version],
    )


def refusal(session: psycopg.Connection, expression: str) -> tuple[str, str]:
    with pytest.raises(errors.ObjectNotInPrerequisiteState) as caught:
        value(session, expression)
    return str(caught.value.diag.message_primary), str(caught.value.diag.message_hint)


@pytest.mark.parametrize("wanted", ["latest", "2"])
def test_it_is_withdrawn_in_every_form_and_its_numbers_go(sides: Sides, wanted: str) -> None:
    execute(sides.here, f"ALTER FEDERATED SUBSCRIPTION s SET (version = '{wanted}')")
    sides.deliver()
    sides.here.execute(
        "CREATE TABLE p (age float8, smoker boolean); INSERT INTO p VALUES (10, true);"
        'CREATE VIEW v AS SELECT federated_model."risk@2"(age, smoker) AS y FROM p;'
        "CREATE VIEW w AS SELECT federated_model.risk(age, smoker) AS y FROM p"
    )
    value(sides.here, "y FROM v")
    retire(sides, 2)
    report(sides.there, sides.here, "north")
    assert sides.seen() == [("north", "s", True, "retired", 2, None)]
    sides.deliver()
    sides.deliver()

    with sides.cluster.connect(sides.here.info.dbname, user="an_analyst") as analyst:
        for form in (
            CALL,
            "federated_predict('risk@2', '{\"age\": 10}')",
            "federated_model.risk()",
            'federated_model."risk@2"()',
            "predict('risk', ARRAY[1.0])",
        ):
            message, hint = refusal(analyst, form)
            assert message.startswith('version 2 of federated model "risk" was retired')
            assert "federated_subscriptions" in hint
    for view in "vw":
        assert refusal(sides.here, f"y FROM {view}")[0].startswith("version 2")
    assert sides.here.execute(
        "SELECT prediction, prediction_arrays, retired_at IS NOT NULL FROM federated.delivered_version"
    ).fetchall() == [({}, None, True)]
    assert sides.state() == ("retired", None, None)
    assert "version 2 was retired" in value(sides.here, "message FROM federated_subscriptions")
    assert sides.deliver() == []
    sides.there.commit()
    assert offers(sides.there, "north") == []
    assert sides.seen()[0][3:] == ("waiting" if wanted == "latest" else "unavailable", None, None)


def test_the_next_version_takes_its_place_without_a_gap(sides: Sides, daemon: psycopg.Connection) -> None:
    sides.deliver()
    sides.here.execute(
        "CREATE TABLE p (age float8, smoker boolean); INSERT INTO p VALUES (10, true);"
        'CREATE VIEW v AS SELECT federated_model."risk@2"(age, smoker) AS y FROM p'
    )
    finish_run(sides.there, daemon, intercept=7.25)
    retire(sides, 2)
    report(sides.there, sides.here, "north")
    assert [(one["outcome"], one["version"], one["carries"]) for one in offers(sides.there, "north")] == [
        ("offered", 3, True)
    ]
    assert sides.deliver() == [None]
    assert value(sides.here, CALL) == value(sides.there, CALL)
    # What a view kept of the former one goes as well.
    assert [(one["outcome"], one["version"], one["carries"]) for one in offers(sides.there, "north")] == [
        ("retired", 2, False)
    ]
    sides.deliver()
    assert (
        refusal(sides.here, "y FROM v")[1] == "Version 3 is the current one: federated_predict('risk', ...)."
    )
    assert value(sides.here, CALL) == value(sides.there, CALL)
    assert sides.state() == ("current", 3, 3)
    assert offers(sides.there, "north") == []


def test_without_auto_the_next_one_waits_for_refresh(sides: Sides, daemon: psycopg.Connection) -> None:
    sides.deliver()
    execute(sides.here, "ALTER FEDERATED SUBSCRIPTION s SET (auto = false)")
    finish_run(sides.there, daemon, intercept=7.25)
    retire(sides, 2)
    sides.deliver()
    sides.deliver()
    refusal(sides.here, CALL)
    assert sides.state() == ("retired", None, 3)
    assert "ALTER FEDERATED SUBSCRIPTION s REFRESH takes version 3" in value(
        sides.here, "message FROM federated_subscriptions"
    )

    execute(sides.here, "ALTER FEDERATED SUBSCRIPTION s REFRESH")
    assert sides.deliver() == [None]
    assert value(sides.here, CALL) == value(sides.there, CALL)
    assert functions(sides.here) == ["risk", "risk@3"]
    assert sides.state() == ("current", 3, 3)


def test_what_could_not_be_brought_keeps_no_retired_version_predicting(
    sides: Sides, daemon: psycopg.Connection
) -> None:
    sides.deliver()
    finish_run(sides.there, daemon, intercept=7.25)
    retire(sides, 2)
    report(sides.there, sides.here, "north")
    sides.there.execute("UPDATE federated.subscriber SET failure = 'it is larger than a delivery may be'")
    assert [one["outcome"] for one in offers(sides.there, "north")] == ["retired"]


def test_a_node_that_is_not_granted_any_more_is_told_too(sides: Sides) -> None:
    sides.deliver()
    retire(sides, 2)
    execute(sides.there, "REVOKE FEDERATED SUBSCRIBE ON MODEL risk FROM ALL NODES")
    sides.deliver()
    refusal(sides.here, CALL)


def test_what_was_retired_is_not_taken_again(sides: Sides) -> None:
    sides.deliver()
    [(before,)] = sides.there.execute("SELECT prediction FROM federated.version WHERE version = 2").fetchall()
    retire(sides, 2)
    sides.deliver()
    # As a catalog that was restored from before the erasure has it.
    sides.there.execute(
        "UPDATE federated.version SET retired_at = NULL, prediction = %s WHERE version = 2",
        [psycopg.types.json.Jsonb(before)],
    )
    sides.there.execute("UPDATE federated.version SET is_current = true WHERE version = 2")
    assert sides.deliver() == []
    refusal(sides.here, CALL)
    assert sides.state() == ("retired", None, 2)
    assert value(sides.here, "message FROM federated_subscriptions").endswith("and is not taken again")
    assert offers(sides.there, "north") == []


def test_a_version_that_is_not_held_is_no_matter_and_another_subscription_an_error(
    sides: Sides, cluster: Cluster
) -> None:
    sides.deliver()
    offer = {"name": "s", "workspace": "clinics", "model_name": "risk", "wanted": None, "version_key": None}
    offer["version_key"] = "00000000-0000-0000-0000-000000000001"
    with cluster.connect(sides.here.info.dbname, user="heliosdb_daemon") as daemon:
        assert daemon.execute(WITHDRAW, offer).fetchall() == [(False,)]
        for changed in ({"name": "t"}, {"workspace": "w"}, {"model_name": "m"}, {"wanted": "prod"}):
            with pytest.raises(errors.ObjectNotInPrerequisiteState):
                daemon.execute(WITHDRAW, offer | changed)
            daemon.rollback()
    with (
        cluster.connect(sides.here.info.dbname, user="an_operator") as other,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        other.execute(WITHDRAW, offer)
    value(sides.here, CALL)

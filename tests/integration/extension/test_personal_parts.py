"""A node's own parts of models in its database: shown, destroyed with all that predicts with them, and gone with the
subscription."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from tests.integration.extension.subscriptions_support import CALL, Sides, subscribed
from tests.integration.extension.versions_support import execute, value
from tests.support.cluster import Cluster

RUN = UUID(int=7)
PUT = """
INSERT INTO federated.personal_part (workspace, run_id, node_name, model_name, round_number, way, figures, sealed)
VALUES ('clinics', %s, 'north', 'risk', 3, 'fine_tune', '{"rows": 40, "global": {"loss": 0.5}, "personal": {"loss": 0.25}}', 'x')
"""


@pytest.fixture
def sides(cluster: Cluster, trained: psycopg.Connection) -> Iterator[Sides]:
    with subscribed(cluster, trained) as both:
        yield both


def parts(sides: Sides) -> list[tuple[object, ...]]:
    return sides.here.execute(
        "SELECT model_name, held_out_rows, global_loss, personal_loss, personal_accuracy, predicts_version"
        " FROM federated_personal_models"
    ).fetchall()


def predict_with_own(sides: Sides) -> int:
    """Bring the version, as one that predicts with the node's own part; returns its number."""
    sides.here.execute(PUT, [RUN])
    sides.deliver()
    sides.here.execute("UPDATE federated.delivered_version SET personal_run = %s WHERE is_current", [RUN])
    return int(sides.state()[1])


def destroy(sides: Sides) -> int:
    with sides.cluster.connect(sides.here.info.dbname, user="heliosdb_daemon") as daemon:
        return int(value(daemon, "federated._destroy_personal('clinics')"))


def test_what_predicts_with_a_destroyed_part_says_so_until_the_version_is_brought_again(sides: Sides) -> None:
    version = predict_with_own(sides)
    assert parts(sides) == [("risk", 40, 0.5, 0.25, None, version)]
    before = value(sides.here, CALL)

    assert destroy(sides) == 1

    assert parts(sides) == []
    with pytest.raises(errors.ObjectNotInPrerequisiteState) as refused:
        value(sides.here, CALL)
    assert "a data subject was erased" in str(refused.value)
    assert sides.here.execute("SELECT FROM federated.delivered_version").fetchall() == []
    assert sides.state() == ("behind", None, version)
    assert sides.deliver() == [None]
    assert value(sides.here, CALL) == before
    assert destroy(sides) == 0
    assert value(sides.here, CALL) == before


def test_of_a_version_that_a_view_uses_the_function_stays_and_the_numbers_go(sides: Sides) -> None:
    version = predict_with_own(sides)
    execute_plain = sides.here.execute
    execute_plain(f'CREATE VIEW v AS SELECT federated_model."risk@{version}"() AS y'.encode())

    destroy(sides)

    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        value(sides.here, "y FROM v")
    kept = execute_plain(
        "SELECT prediction::text, prediction_arrays, is_current FROM federated.delivered_version"
    )
    assert kept.fetchall() == [("{}", None, False)]


@pytest.mark.parametrize("how", ["dropped", "unknown"])
def test_it_goes_with_the_subscription_and_when_the_coordinator_knows_the_model_no_more(
    sides: Sides, how: str
) -> None:
    predict_with_own(sides)
    sides.here.execute(PUT.replace("'risk'", "'other'").encode(), [UUID(int=8)])
    if how == "dropped":
        execute(sides.here, "DROP FEDERATED SUBSCRIPTION s")
    else:
        execute(sides.there, "REVOKE FEDERATED SUBSCRIBE ON MODEL risk FROM ALL NODES")
        sides.deliver()
        assert value(sides.here, CALL) is not None
    assert [name for name, *_ in parts(sides)] == ["other"]

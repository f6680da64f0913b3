"""Groups that vote, over real nodes: a hostile node changes one vote, and no prediction that was certified."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import psycopg
import pytest

from heliosdb.domain.groups import dealt
from heliosdb.domain.ids import NodeName, WorkspaceName
from tests.integration.coordinator.orders_support import share_by_patient
from tests.integration.coordinator.support import Site, World, create_model, create_workspace
from tests.integration.extension.versions_support import notices_of

NAMES = ("north", "south", "east", "west", "centre")
AGES, PRESSURES = range(30, 71, 5), range(90, 151, 10)


async def _federation(world: World, *, rows: int = 200, sharing: int = 5, **policy: object) -> list[Site]:
    create_workspace(world, min_nodes=1, **policy)
    sites = []
    for number, name in enumerate(NAMES):
        sites.append(await world.add_site(name, rows=rows, seed=0.1 * (number + 1), shares=number < sharing))
        world.register(sites[-1])
    return sites


async def _over(world: World) -> str:
    await world.reached("NOT EXISTS (SELECT FROM federated.run WHERE status IN ('queued', 'running'))")
    (answer,) = world.query("SELECT wait_for_convergence('risk', 60) AS status")
    return str(answer["status"])


def _certified(world: World, model: str) -> list[dict[str, Any]]:
    return world.query(
        "SELECT a, p, c.* FROM unnest(%s::integer[]) AS a, unnest(%s::integer[]) AS p,"
        " LATERAL federated_certify(%s, jsonb_build_object('age', a, 'pressure', p)) AS c ORDER BY a, p",
        list(AGES),
        list(PRESSURES),
        model,
    )


def _flip(world: World, site: Site) -> None:
    """Have a node teach the opposite of what is so."""
    with world.cluster.connect(site.database) as connection:
        connection.execute("UPDATE patient SET outcome = 1 - outcome")


async def test_a_hostile_node_changes_no_prediction_that_was_certified(world: World) -> None:
    sites = await _federation(world)
    create_model(world, rounds=4, learning_rate=0.3)
    world.start_coordinator()
    world.execute("START FEDERATED TRAINING risk WITH (voting_groups = 5)")
    assert await _over(world) == "completed"
    _flip(world, sites[1])
    world.execute("START FEDERATED TRAINING risk WITH (voting_groups = 5)")
    assert await _over(world) == "completed"

    honest, hostile = _certified(world, "risk@1"), _certified(world, "risk@2")

    assert {one["voters"] for one in (*honest, *hostile)} == {5}
    assert {one["prediction"] for one in honest} == {"0", "1"}
    assert sum(one["hostile_nodes"] == 2 for one in honest) > len(honest) / 2
    assert all(one["hostile_nodes"] < 2 for one in hostile if one["a"] in (30, 70)), "the node had no effect"
    for before, after in zip(honest, hostile, strict=True):
        if before["hostile_nodes"] >= 1:
            assert after["prediction"] == before["prediction"]
        assert abs(after["votes"] - before["votes"]) <= 1 or after["prediction"] != before["prediction"]

    groups = world.query("SELECT series_id, voting_group, group_nodes FROM federated.run ORDER BY created_at")
    assert [one["voting_group"] for one in groups] == [1, 2, 3, 4, 5, None] * 2
    for half in (groups[:5], groups[6:11]):
        assert sorted(name for one in half for name in one["group_nodes"]) == sorted(NAMES)
    strangers = world.query(
        "SELECT r.run_id FROM federated.participation AS p JOIN federated.run AS r USING (run_id)"
        " JOIN federated.node AS n USING (node_id) WHERE n.name <> ALL (r.group_nodes)"
    )
    assert strangers == [], "a node took part in a run that is not its group's"
    versions = world.query(
        "SELECT version, global_loss, report, sha256 FROM federated.version ORDER BY version"
    )
    assert [(one["version"], one["global_loss"], sorted(one["report"])) for one in versions] == [
        (1, None, ["certified", "nodes"]),
        (2, None, ["certified", "nodes"]),
    ]
    assert versions[0]["sha256"] != versions[1]["sha256"]
    assert world.query("SELECT count(*) AS n FROM federated.run_parameters") == [{"n": 0}]


async def test_what_is_shown_of_a_vote_is_of_all_groups_or_says_of_which(world: World) -> None:
    await _federation(world, rows=100)
    create_model(world, rounds=1)
    world.start_coordinator()
    world.execute("START FEDERATED TRAINING risk WITH (voting_groups = 5)")
    assert await _over(world) == "completed"

    runs = world.query("SELECT run, voting_group, group_nodes FROM federated_runs ORDER BY run")
    assert [(one["run"], one["voting_group"]) for one in runs] == [*((n, n) for n in range(1, 6)), (6, None)]
    assert sorted(name for one in runs[:5] for name in one["group_nodes"]) == sorted(NAMES)
    (card,) = world.query("SELECT federated_model_card('risk') AS card")
    sites = card["card"]["version"]["data"]["sites"]
    assert [one["node"] for one in sites] == sorted(NAMES)
    assert {one["rounds"] for one in sites} == {1}
    training = card["card"]["version"]["training"]
    assert [(one["voting_group"], one["nodes"]) for one in training["groups"]] == [
        (one["voting_group"], one["group_nodes"]) for one in runs[:5]
    ]
    assert training["finished_at"] == max(one["finished_at"] for one in training["groups"])
    shown = world.query("SELECT kind, group_number, group_nodes FROM federated_run_groups('risk')")
    assert [(one["kind"], one["group_number"], one["group_nodes"]) for one in shown] == [
        ("voting", one["voting_group"], one["group_nodes"]) for one in runs[:5]
    ]
    with world.catalog() as connection:
        told = notices_of(connection)
        connection.execute("SELECT federated_evaluate('risk')")
        connection.execute("SELECT federated_data_quality_check('risk', run => 2)")
    assert told == [
        "a version by vote has no figures of its own: each group's run has",
        'this is of the nodes of voting group 2 of federated model "risk" alone',
    ]
    for call, error in (
        ("federated_roc_curve", psycopg.errors.ObjectNotInPrerequisiteState),
        ("federated_feature_importance", psycopg.errors.ObjectNotInPrerequisiteState),
        ("federated_coefficients", psycopg.errors.FeatureNotSupported),
    ):
        with pytest.raises(error) as refused:
            world.query(f"SELECT {call}('risk')")
        assert "A version by vote has no" in (refused.value.diag.message_detail or "")


async def test_what_is_certified_is_measured_at_the_held_out_rows_of_all_nodes(world: World) -> None:
    sites = await _federation(world, rows=400)
    create_model(world, rounds=4, learning_rate=0.3, validation_split=0.5)
    world.start_coordinator()
    world.execute("START FEDERATED TRAINING risk WITH (voting_groups = 5)")
    assert await _over(world) == "completed"

    told = world.query("SELECT * FROM federated_certify('risk')")

    of_all = [one for one in told if one["node_name"] is None]
    assert [one["hostile_nodes"] for one in of_all] == [0, 1, 2]
    assert 900 < of_all[0]["row_count"] < 1100
    assert of_all[0]["certified_share"] == 1.0
    for before, after in pairwise(of_all):
        assert after["certified_share"] <= before["certified_share"]
        assert after["certified_accuracy"] <= before["certified_accuracy"]
    by_node = {
        one["node_name"]: one for one in told if one["node_name"] is not None and one["hostile_nodes"] == 2
    }
    assert sorted(by_node) == sorted(NAMES)
    assert sum(one["row_count"] for one in by_node.values()) == of_all[0]["row_count"]
    # Half of the pooled rows, drawn by the nodes: about what all of them show.
    with world.catalog() as connection:
        connection.execute("CREATE TABLE pooled (age float8, pressure float8, outcome integer)")
        for site in sites:
            with world.cluster.connect(site.database) as node:
                rows = node.execute("SELECT age, pressure, outcome FROM patient").fetchall()
            connection.cursor().executemany("INSERT INTO pooled VALUES (%s, %s, %s)", rows)
    pooled = world.query("SELECT * FROM federated_certified_accuracy('risk', 'SELECT * FROM pooled')")
    for measured, known in zip(of_all, pooled, strict=True):
        assert measured["hostile_nodes"] == known["hostile_nodes"]
        for figure in ("certified_share", "certified_accuracy"):
            assert measured[figure] == pytest.approx(known[figure], abs=0.04)


async def test_a_vote_is_measured_by_secure_sums_and_then_no_node_is_shown(world: World) -> None:
    create_workspace(world, min_nodes=3)
    names = [f"n{number}" for number in range(9)]
    world.name_peers(names)
    for number, name in enumerate(names):
        world.register(await world.add_site(name, rows=100, seed=0.1 * (number + 1)))
    create_model(world, rounds=1, secure_aggregation=True)
    world.start_coordinator()
    world.execute("START FEDERATED TRAINING risk WITH (voting_groups = 3)")

    assert await _over(world) == "completed"

    told = world.query("SELECT hostile_nodes, node_name FROM federated_certify('risk')")
    assert told == [{"hostile_nodes": number, "node_name": None} for number in range(2)]


@pytest.mark.parametrize(
    ("policy", "options", "why"),
    [
        ({"privacy_budget": 20.0}, {"target_classes": ["0", "1"]}, "Under a privacy_budget"),
        ({}, {"validation_split": 0}, "validation_split is 0"),
    ],
)
async def test_a_vote_that_was_not_measured_says_why(
    world: World, policy: dict[str, object], options: dict[str, object], why: str
) -> None:
    await _federation(world, rows=400, **policy)
    create_model(world, **{"rounds": 1, **options})
    world.start_coordinator()
    world.execute("START FEDERATED TRAINING risk WITH (voting_groups = 5)")
    await _over(world)

    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="was not measured") as refused:
        world.query("SELECT * FROM federated_certify('risk')")

    assert why in (refused.value.diag.message_detail or "")


async def test_a_group_without_a_model_does_not_vote(world: World) -> None:
    await _federation(world, rows=100, sharing=4)
    create_model(world, rounds=1)
    world.start_coordinator()
    world.execute("START FEDERATED TRAINING risk WITH (voting_groups = 5)")

    await _over(world)

    (said,) = world.query("SELECT message FROM federated.run WHERE message ~ 'version'")
    assert "the models of 4 of 5 groups vote, and none of group" in said["message"]
    assert _certified(world, "risk")[0]["voters"] == 4


async def test_a_group_whose_model_cannot_be_read_does_not_vote(world: World) -> None:
    await _federation(world, rows=100)
    create_model(world, rounds=1)
    world.execute("START FEDERATED TRAINING risk WITH (voting_groups = 5)")
    await world.start_coordinator(faults="coordinator.round.closed:5=kill").died()
    with world.catalog() as connection:
        connection.execute(
            "DELETE FROM federated.run_parameters USING federated.run AS r"
            " WHERE r.run_id = run_parameters.run_id AND r.voting_group = 1"
        )
    world.start_coordinator()

    await _over(world)

    (said,) = world.query("SELECT message FROM federated.run WHERE message ~ 'version'")
    assert (
        "the models of 4 of 5 groups vote, and none of group 1 (the parameters of round 1 are missing)"
        in said["message"]
    )
    assert _certified(world, "risk")[0]["voters"] == 4


async def test_fewer_than_three_models_are_no_vote(world: World) -> None:
    await _federation(world, rows=100, sharing=2)
    create_model(world, rounds=1)
    world.start_coordinator()
    world.execute("START FEDERATED TRAINING risk WITH (voting_groups = 5)")

    await _over(world)

    assert world.query("SELECT version FROM federated.version") == []
    (said,) = world.query("SELECT message FROM federated.run WHERE message ~ 'no version can be published'")
    assert "2 of the groups have a model of the same columns" in said["message"]
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="no trained version"):
        world.query("SELECT federated_certify('risk', '{}')")


async def test_under_a_budget_each_node_pays_for_its_own_group_alone(world: World) -> None:
    await _federation(world, rows=400, privacy_budget=20.0)
    create_model(world, target_classes=["0", "1"])
    world.start_coordinator()
    world.execute("START FEDERATED TRAINING risk WITH (voting_groups = 5)")

    assert await _over(world) in {"completed", "converged"}

    spent = world.query(
        "SELECT node_name, count(DISTINCT run_id) AS runs, max(epsilon_tight) AS epsilon FROM federated.ledger"
        " GROUP BY node_name"
    )
    assert {one["runs"] for one in spent} == {1}
    assert [one["epsilon"] for one in spent] == pytest.approx([20.0] * 5, rel=0.01)
    (version,) = world.query("SELECT epsilon FROM federated.version")
    assert version["epsilon"] == pytest.approx(20.0, rel=0.01)


async def test_a_killed_coordinator_leaves_a_vote_that_another_one_holds(world: World) -> None:
    await _federation(world, rows=100)
    create_model(world, rounds=1)
    world.execute("START FEDERATED TRAINING risk WITH (voting_groups = 5)")
    first = world.start_coordinator(faults="coordinator.round.closed:5=kill")
    await first.died()
    second = world.start_coordinator(faults="coordinator.search.decided=kill")
    await second.died()
    world.start_coordinator()

    assert await _over(world) == "completed"

    assert len(world.query("SELECT version FROM federated.version")) == 1
    assert _certified(world, "risk")[0]["voters"] == 5


async def test_start_refuses_groups_that_could_not_vote(world: World) -> None:
    create_workspace(world, min_nodes=2)
    create_model(world)
    invalid = psycopg.errors.InvalidParameterValue
    state, unsupported = psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.FeatureNotSupported
    for options, error, message in (
        ("voting_groups = 2", invalid, 'invalid value for option "voting_groups"'),
        ("voting_groups = 3", state, "3 groups of 2 nodes each need 6 nodes, and 0 nodes are registered"),
        ("voting_groups = 3, folds = 2", invalid, "folds does not go with voting_groups"),
        ("""voting_groups = 3, search = '{"rounds": [1, 2]}'""", invalid, "search does not go with"),
        (
            "voting_groups = 3, aggregation = 'fltrust', root_node = 'north'",
            invalid,
            "root_node does not go with",
        ),
        ("voting_groups = 3, checkpoint_every = 2", invalid, "checkpoint_every has no effect"),
    ):
        with pytest.raises(error, match=message):
            world.execute(f"START FEDERATED TRAINING risk WITH ({options})")
    world.execute("ALTER FEDERATED MODEL risk SET (algorithm = 'linear_regression')")
    with pytest.raises(invalid, match="linear_regression learns a number, on which no groups can vote"):
        world.execute("START FEDERATED TRAINING risk WITH (voting_groups = 3)")
    world.execute(
        "CREATE FEDERATED MODEL grove IN WORKSPACE consortium WITH (algorithm = 'random_forest', trees = 5,"
        " features = ['age'], target = 'outcome')"
    )
    with pytest.raises(invalid, match="needs target_classes where random_forest may learn a number too"):
        world.execute("START FEDERATED TRAINING grove WITH (voting_groups = 3)")
    world.execute("ALTER FEDERATED MODEL risk SET (algorithm = 'logistic_regression')")
    world.execute("ALTER FEDERATED WORKSPACE consortium SET (privacy_budget = 5, subjects_overlap = true)")
    with pytest.raises(unsupported, match="not supported under a privacy_budget with subjects_overlap"):
        world.execute("START FEDERATED TRAINING risk WITH (voting_groups = 3)")
    assert world.runs() == []


async def test_no_hand_chooses_the_nodes_of_a_group(world: World) -> None:
    create_workspace(world, min_nodes=2)
    for number, name in enumerate((*NAMES, "coast")):
        world.execute(
            f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE consortium WITH (endpoint = 'https://localhost:{number + 1}')"
        )
    nodes = [NodeName(name) for name in (*NAMES, "coast")]
    (alone, *_), (a, b, c) = (
        [list(group) for group in dealt(nodes, count, WorkspaceName("consortium"))] for count in (6, 3)
    )
    invalid, state = psycopg.errors.InvalidParameterValue, psycopg.errors.ObjectNotInPrerequisiteState
    series, unlike = "does not go with its voting_groups", "are not those that are dealt to it"
    with world.catalog() as connection:
        connection.execute("CREATE ROLE starter IN ROLE federated_operator")
        connection.execute("SET ROLE starter")
        connection.execute(
            "CALL federated.execute($$CREATE FEDERATED MODEL risk IN WORKSPACE consortium WITH (algorithm ="
            " 'logistic_regression', features = ['age'], target = 'outcome')$$)"
        )
        insert = (
            "INSERT INTO federated.run (model_id, overrides, series_id, waiting, voting_group, group_nodes)"
            " SELECT model_id, jsonb_build_object('voting_groups', %s::integer),"
            " '00000000-0000-0000-0000-000000000001', %s, %s, %s FROM federated.model"
        )

        def refuse(error: type[psycopg.Error], message: str, *values: object) -> None:
            with pytest.raises(error, match=message):
                connection.execute(insert, values)

        for group in (a[:1], b, [*a, b[0]], [a[0], a[0]], [*a, a[0]], ["nobody"]):
            refuse(invalid, unlike, 3, False, 1, group)
        refuse(state, "group 1 would be of fewer nodes than min_nodes", 6, False, 1, alone)
        refuse(invalid, series, 3, False, 4, a)
        refuse(invalid, series, 3, False, None, None)
        connection.execute(insert, (3, False, 1, a))
        refuse(invalid, unlike, 3, True, 2, a)
        refuse(invalid, series, 3, True, 1, a)
        refuse(invalid, series, 4, True, 2, b)
        connection.execute(insert, (3, True, 2, b))
        # What measures the vote comes behind all groups, and once.
        refuse(invalid, series, 3, True, None, None)
        connection.execute(insert, (3, True, 3, c))
        connection.execute(insert, (3, True, None, None))
        refuse(invalid, series, 3, True, None, None)


async def test_the_catalog_deals_nodes_as_start_does(world: World) -> None:
    names = ["north", "Süd", "ost 1", "öst", "x" * 60, "z", "Z", "0", "_"]
    with world.catalog() as connection:
        for count in (1, 2, 3, 4, 9):
            rows = connection.execute(
                "SELECT federated._dealt(%s, %s, 'Bündnis', n) AS names FROM generate_series(1, %s) AS n ORDER BY n",
                [names, count, count],
            )
            groups = dealt([NodeName(name) for name in names], count, WorkspaceName("Bündnis"))
            assert [row["names"] for row in rows] == [list(group) for group in groups]


async def test_a_version_is_retired_whose_voters_had_learned_from_an_erased_subject(world: World) -> None:
    create_workspace(world, min_nodes=1)
    for number, name in enumerate(NAMES[:3]):
        site = await world.add_site(name, rows=100, seed=0.1 * (number + 1), shares=False)
        if number:
            with world.cluster.connect(site.database) as connection:
                connection.execute("DELETE FROM patient WHERE patient_id = 42")
        share_by_patient(world, site, options=", min_rows = 2, plain_withdrawals = true")
        world.register(site)
    create_model(world, rounds=1)
    world.start_coordinator()
    world.execute("START FEDERATED TRAINING risk WITH (voting_groups = 3)")
    assert await _over(world) == "completed"
    ran = len(world.runs())

    with world.catalog() as connection:
        told = notices_of(connection)
        connection.execute(
            "CALL federated.execute($$DELETE FROM FEDERATED TRAINING risk WHERE data_subject_id = '42'$$)"
        )
    assert any("none takes its place: START FEDERATED TRAINING risk makes the next" in one for one in told)
    await world.reached("EXISTS (SELECT FROM federated.erasure WHERE completed_at IS NOT NULL)")

    (shown,) = world.query("SELECT DISTINCT exactness, versions FROM federated_erasure_status")
    assert shown == {"exactness": "exact: the versions were retired", "versions": ["risk@1"]}
    assert len(world.runs()) == ran, "nobody queues a series by himself"
    assert world.query("SELECT DISTINCT scaling FROM federated.run") == [{"scaling": None}]
    for model in ("risk", "risk@1"):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            world.query("SELECT federated_certify(%s, '{}')", model)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
        world.query("SELECT federated_evaluate('risk')")
    assert "All its versions were retired" in (refused.value.diag.message_detail or "")
    assert "START FEDERATED TRAINING risk" in (refused.value.diag.message_hint or "")
    world.execute("START FEDERATED TRAINING risk WITH (voting_groups = 3)")
    assert await _over(world) == "completed"
    assert world.query("SELECT (federated_certify('risk', '{}')).voters") == [{"voters": 3}]

"""Runs that begin with a version, over real nodes: the same predictions before the first step, layers that stay, the line of
versions, and what becomes of it where a data subject is erased, a model dropped, or a coordinator killed."""

from __future__ import annotations

import os
import pwd
import tempfile
from typing import Any

import psycopg
import pytest

from heliosdb.domain.state import state_from_bytes
from tests.integration.coordinator.orders_support import erase, found_federation, keyed, share_by_patient
from tests.integration.coordinator.support import MODEL, WORKSPACE, World, create_workspace

pytestmark = [
    pytest.mark.usefixtures("forked_with_torch"),
    pytest.mark.xdist_group("transfer"),
]

NODES = ("east", "north", "west")
_SMALLEST = 1e-6
"""A learning rate by which nothing moves that is seen."""


async def _federation(world: World, *, rows: int = 150, **options: object) -> None:
    create_workspace(world, **{"min_nodes": 3, **options})
    for place, name in enumerate(NODES):
        world.register(await world.add_site(name, rows=rows, seed=0.1 * place))


def _model(world: World, name: str, **options: object) -> None:
    chosen = {
        "algorithm": "'logistic_regression'", "features": "['age', 'pressure']", "target": "'outcome'",
        "rounds": 3, "learning_rate": 0.1, "seed": 7,
    } | options  # fmt: skip
    given = ", ".join(f"{option} = {value}" for option, value in chosen.items() if value is not None)
    world.execute(f"CREATE FEDERATED MODEL {name} IN WORKSPACE {WORKSPACE} WITH ({given})")


async def _trained(world: World, name: str, *, count: int, **options: object) -> dict[str, Any]:
    given = ", ".join(f"{option} = {value}" for option, value in options.items())
    world.execute(f"START FEDERATED TRAINING {name}" + (f" WITH ({given})" if given else ""))
    ended = await world.finished(count=count)
    assert ended["status"] in {"completed", "converged"}, ended
    return ended


def _predicted(world: World, name: str) -> list[float]:
    rows = world.query(
        "SELECT federated_predict(%s, jsonb_build_object('age', a, 'pressure', p)) AS p"
        " FROM generate_series(30, 70, 10) AS a, generate_series(90, 150, 20) AS p ORDER BY a, p",
        name,
    )
    return [one["p"] for one in rows]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"algorithm": "'linear_regression'"},
        {"algorithm": "'poisson_regression'"},
        {
            "algorithm": "'neural_network'",
            "layers": "[3, 2, 1]",
            "optimizer": "'adam'",
            "learning_rate": 0.02,
        },
    ],
)
async def test_a_run_begins_as_the_version_predicts(world: World, options: dict[str, Any]) -> None:
    await _federation(world)
    _model(world, MODEL, **options)
    world.start_coordinator()
    await _trained(world, MODEL, count=1)
    before = _predicted(world, "risk@1")
    assert max(before) - min(before) > 0.1, "the source has learned nothing, and any model would be like it"

    # Other features in another order, of which one is not the source's.
    _model(world, "next", **{**options, "learning_rate": _SMALLEST, "rounds": 1, "optimizer": "'sgd'",
                             "features": "['pressure', 'age']", "transfer_from": "'risk@1'"})  # fmt: skip
    await _trained(world, "next", count=2)

    assert _predicted(world, "next") == pytest.approx(before, abs=1e-4)
    (found,) = world.query("SELECT parent, ancestors FROM federated_model_versions('next')")
    assert found["parent"] == "risk@1"
    assert [one["version"] for one in found["ancestors"]] == ["risk@1"]
    (round_0,) = world.query(
        "SELECT d.message FROM federated.round AS d JOIN federated.run AS r USING (run_id) JOIN federated.model AS m"
        " USING (model_id) WHERE m.name = 'next' AND d.round_number = 0"
    )
    assert "begins with risk@1" in round_0["message"]


async def test_frozen_layers_stay_and_the_others_move(world: World) -> None:
    await _federation(world)
    network = {
        "algorithm": "'neural_network'",
        "layers": "[3, 2, 1]",
        "optimizer": "'adam'",
        "learning_rate": 0.02,
    }
    _model(world, MODEL, **network)
    world.start_coordinator()
    await _trained(world, MODEL, count=1)
    await _trained(world, MODEL, count=2, transfer_from="'risk@1'", freeze_layers=2)

    layers = world.query("SELECT prediction_arrays FROM federated.version ORDER BY version")
    first, second = (state_from_bytes(bytes(one["prediction_arrays"])) for one in layers)
    for name in ("weight_0", "bias_0", "weight_1", "bias_1"):
        assert second[name] == pytest.approx(first[name], abs=1e-6), name
    assert abs(second["weight_2"] - first["weight_2"]).max() > 1e-3
    (card,) = world.query("SELECT federated_model_card('risk@2') AS card")
    assert card["card"]["version"]["parent"] == "risk@1"
    (compared,) = world.query("SELECT compare_federated_models('risk', '1', '2') AS c")
    assert (compared["c"]["version_a"]["parent"], compared["c"]["version_b"]["parent"]) == (None, "risk@1")


async def test_what_cannot_be_begun_with_is_refused_before_a_run_is_queued(world: World) -> None:
    await _federation(world)
    _model(world, MODEL, rounds=1)
    world.start_coordinator()
    await _trained(world, MODEL, count=1)
    _model(world, "forest", algorithm="'random_forest'", learning_rate=None)
    _model(world, "network", algorithm="'neural_network'", layers="[4, 1]")
    for model, options, code, text in (
        ("forest", "transfer_from = 'risk@1'", "0A000", "transfer_from is not supported with random_forest"),
        ("network", "transfer_from = 'risk@1'", "22023", "risk@1 is of logistic_regression"),
        ("risk", "transfer_from = 'risk@9'", "42704", 'no version "9"'),
        ("risk", "transfer_from = 'nobody'", "42704", "nobody"),
        ("risk", "transfer_from = 'network'", "55000", "no trained version"),
        ("network", "freeze_layers = 1", "22023", "would keep layers that have learned nothing"),
        ("risk", "freeze_layers = 1", "22023", "freeze_layers has no effect on logistic_regression"),
        ("risk", "transfer_from = 'risk', freeze_layers = 1", "22023", "freeze_layers has no effect on logistic_regression"),
        ("network", "transfer_from = 'risk', freeze_layers = 2", "22023", "freeze_layers is 2, and the network has 2 layers"),
        ("risk", """transfer_from = 'risk', search = '{"freeze_layers": [0, 1]}'""", "22023", "cannot be searched"),
    ):  # fmt: skip
        with pytest.raises(psycopg.Error) as refused:
            world.execute(f"START FEDERATED TRAINING {model} WITH ({options})")
        assert refused.value.sqlstate == code, (options, refused.value)
        assert text in str(refused.value), options
    assert len(world.runs()) == 1
    plan = world.query(
        "SELECT federated.explain('EXPLAIN START FEDERATED TRAINING risk WITH (transfer_from = ''risk'')') AS line"
    )
    assert any("Begins With: risk@1" in one["line"] for one in plan), plan


async def test_a_killed_coordinator_begins_with_the_same_bits(world: World) -> None:
    await _federation(world)
    _model(world, MODEL, rounds=1)
    first = world.start_coordinator()
    await _trained(world, MODEL, count=1)
    await _trained(world, MODEL, count=2, transfer_from="'risk@1'", promote="false")
    first.kill()
    world.execute("START FEDERATED TRAINING risk WITH (transfer_from = 'risk@1', promote = false)")
    # Once before the version was read for good, once behind it; what is begun with is the same.
    await world.start_coordinator(faults="coordinator.run.claimed=kill").died()
    await world.start_coordinator(faults="coordinator.round.closed:1=kill").died()
    world.start_coordinator()
    await world.finished(count=3)

    found = world.query(
        "SELECT version, parameters_sha256, parent FROM federated_model_versions('risk') ORDER BY version"
    )
    assert [one["parent"] for one in found] == [None, "risk@1", "risk@1"]
    assert found[1]["parameters_sha256"] == found[2]["parameters_sha256"] != found[0]["parameters_sha256"]


async def test_a_dropped_model_stays_a_name_in_the_line(world: World) -> None:
    await _federation(world)
    _model(world, MODEL, rounds=1)
    _model(world, "next", rounds=1, transfer_from="'risk'")
    world.start_coordinator()
    await _trained(world, MODEL, count=1)
    await _trained(world, "next", count=2)
    world.execute("DROP FEDERATED MODEL risk")

    (found,) = world.query("SELECT parent FROM federated_model_versions('next')")
    assert found["parent"] == "risk@1"
    with pytest.raises(psycopg.errors.UndefinedObject, match="risk"):
        world.execute("START FEDERATED TRAINING next")


async def test_a_run_whose_version_is_dropped_before_it_begins_says_so(world: World) -> None:
    await _federation(world)
    _model(world, MODEL, rounds=1)
    coordinator = world.start_coordinator()
    await _trained(world, MODEL, count=1)
    await _trained(world, MODEL, count=2)
    coordinator.kill()
    world.execute("START FEDERATED TRAINING risk WITH (transfer_from = 'risk@1')")
    world.execute("DROP FEDERATED MODEL risk VERSION 1")
    world.start_coordinator()

    ended = await world.finished(count=3)

    assert ended["status"] == "failed"
    assert "risk@1, with which the run was to begin, was dropped" in ended["message"]


async def _elsewhere(world: World, **options: object) -> None:
    """Another workspace of two nodes, of which none has subject 42, with a model that begins with risk@1."""
    given = ", ".join(f"{name} = {value}" for name, value in options.items())
    world.execute("CREATE FEDERATED WORKSPACE elsewhere" + (f" WITH ({given})" if given else ""))
    for place, name in enumerate(("south", "centre")):
        site = await world.add_site(name, rows=60, seed=0.3 + 0.1 * place, shares=False)
        with world.cluster.connect(site.database) as connection:
            connection.execute("DELETE FROM patient WHERE patient_id = 42")
            connection.execute(
                "CALL federated.execute('CREATE FEDERATED DATASET patients FOR TABLE patient (age, pressure, outcome)"
                " IN WORKSPACE elsewhere WITH (subject = ''patient_id'', min_rows = 2)')"
            )
        world.execute(
            f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE elsewhere WITH (endpoint = 'https://localhost:{site.port}',"
            f" certificate = '{world.federation.directory / f'{name}.pem'}')"
        )
    world.execute(
        "CREATE FEDERATED MODEL child IN WORKSPACE elsewhere WITH (algorithm = 'logistic_regression', rounds = 1,"
        " features = ['age', 'pressure'], target = 'outcome', transfer_from = 'risk')"
    )


async def test_erasing_a_subject_of_the_source_retires_what_descends_from_it_in_another_workspace(
    world: World,
) -> None:
    await found_federation(world, "east", "west", options=", min_rows = 2, plain_withdrawals = true")
    await _elsewhere(world)
    world.start_coordinator()
    await keyed(world)
    await _trained(world, MODEL, count=1)
    await _trained(world, "child", count=2)
    await _trained(world, "child", count=3, transfer_from="'child@1'")

    erase(world, "42")
    await world.reached("EXISTS (SELECT FROM federated.erasure WHERE completed_at IS NOT NULL)")

    gone = world.query(
        "SELECT version, retired_at IS NOT NULL AS retired FROM federated_model_versions('child')"
    )
    assert [(one["version"], one["retired"]) for one in gone] == [(1, True), (2, True)]
    # The source itself is trained anew.
    assert [one["retired_at"] is not None for one in world.query("SELECT * FROM federated_model_versions('risk')")] == [
        True, False,
    ]  # fmt: skip
    (found,) = world.query("SELECT federated_erasure_certificate(order_id) AS c FROM federated.erasure")
    said = found["c"]["certificate"]
    assert [(one["model"], one["version"], one.get("began_with")) for one in said["versions"]] == [
        ("child", 1, "risk@1"), ("child", 2, "child@1"), ("risk", 1, None),
    ]  # fmt: skip
    assert said["exactness"].startswith("exact")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="retired"):
        world.execute("START FEDERATED TRAINING child WITH (transfer_from = 'child@2')")
    # What takes its place begins with the version that was trained anew.
    await _trained(world, "child", count=5)
    (parent,) = world.query("SELECT parent FROM federated_model_versions('child') WHERE version = 3")
    assert parent["parent"] == "risk@2"


async def test_a_source_that_was_dropped_is_remembered_when_a_subject_of_it_is_erased(world: World) -> None:
    await found_federation(world, "east", "west", options=", min_rows = 2, plain_withdrawals = true")
    await _elsewhere(world)
    world.start_coordinator()
    await keyed(world)
    await _trained(world, MODEL, count=1)
    await _trained(world, "child", count=2)
    world.execute("DROP FEDERATED MODEL risk")
    world.execute(
        f"CREATE FEDERATED MODEL risk IN WORKSPACE {WORKSPACE} WITH (algorithm = 'logistic_regression',"
        " features = ['age'], target = 'outcome')"
    )

    erase(world, "42")
    await world.reached("EXISTS (SELECT FROM federated.erasure WHERE completed_at IS NOT NULL)")

    (gone,) = world.query("SELECT retired_at FROM federated_model_versions('child')")
    assert gone["retired_at"] is not None


async def test_what_the_ancestor_cost_in_another_workspace_is_said_beside_epsilon(world: World) -> None:
    create_workspace(world, min_nodes=2, privacy_budget=5.0)
    for place, name in enumerate(("east", "west")):
        site = await world.add_site(name, rows=200, seed=0.1 * place, shares=False)
        share_by_patient(world, site)
        world.register(site)
    _model(world, MODEL, rounds=1)
    await _elsewhere(world, privacy_budget=3.0)
    world.start_coordinator()
    await _trained(world, MODEL, count=1)
    with world.catalog() as connection:
        told: list[str] = []
        connection.add_notice_handler(lambda one: told.append(one.message_primary or ""))
        connection.execute("CALL federated.execute('START FEDERATED TRAINING child')")
    assert any("risk@1 has cost epsilon" in one and "on top of what this run costs" in one for one in told), (
        told
    )
    await world.finished(count=2)

    (found,) = world.query("SELECT epsilon, ancestors FROM federated_model_versions('child')")
    (ancestor,) = found["ancestors"]
    assert ancestor["workspace"] == WORKSPACE
    assert ancestor["epsilon"] == pytest.approx(5.0, rel=0.01)
    assert ancestor["note"].endswith(f"of its ancestor risk@1 in workspace {WORKSPACE}")
    assert found["epsilon"] == pytest.approx(3.0, rel=0.01)
    (card,) = world.query("SELECT federated_model_card('child') AS card")
    assert card["card"]["version"]["privacy"]["ancestors"] == found["ancestors"]


async def test_a_file_of_such_a_run_goes_on_to_the_same_bits_and_brings_its_line(world: World) -> None:
    await _federation(world)
    _model(world, MODEL, rounds=2)
    first = world.start_coordinator()
    await _trained(world, MODEL, count=1)
    await _trained(world, MODEL, count=2, transfer_from="'risk@1'")
    first.kill()
    world.execute("START FEDERATED TRAINING risk WITH (transfer_from = 'risk@1')")
    await world.start_coordinator(faults="coordinator.round.closed:2=kill").died()
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(name, account.pw_uid, account.pw_gid)
        world.execute(f"CHECKPOINT FEDERATED TRAINING risk TO '{name}/round_1.bin'")
        world.start_coordinator()
        await world.finished(count=3)
        # The run has gone further: another one goes on from the file. What it began with is not needed any more.
        world.execute("DROP FEDERATED MODEL risk VERSION 1")
        world.execute(f"RESUME FEDERATED TRAINING risk FROM '{name}/round_1.bin'")
        await world.finished(count=4)

    found = world.query(
        "SELECT version, parameters_sha256, parent FROM federated_model_versions('risk') ORDER BY version"
    )
    assert {one["parent"] for one in found} == {"risk@1"}
    assert found[-1]["parameters_sha256"] == found[0]["parameters_sha256"], found


@pytest.mark.parametrize("secure", [False, True])
async def test_layers_stay_under_a_budget_and_no_noise_is_added_to_them(world: World, secure: bool) -> None:
    if secure:
        peers = world.federation.directory / "peers.pem"
        for name in NODES:
            world.federation.node_config(world.cluster, "none", name)
        peers.write_bytes(b"".join((peers.parent / f"{name}.pem").read_bytes() for name in NODES))
        world.node_settings["peers"] = peers
    await _federation(world, rows=400, privacy_budget=40.0)
    network = {"algorithm": "'neural_network'", "layers": "[4, 1]", "learning_rate": 0.1, "rounds": 2}
    _model(world, MODEL, **network)
    world.start_coordinator()
    world.execute("ALTER FEDERATED WORKSPACE consortium SET (privacy_per_round = 3)")
    await _trained(world, MODEL, count=1)
    await _trained(world, MODEL, count=2, transfer_from="'risk@1'", freeze_layers=1,
                   **({"secure_aggregation": "true"} if secure else {}))  # fmt: skip

    first, second = (
        state_from_bytes(bytes(one["prediction_arrays"]))
        for one in world.query("SELECT prediction_arrays FROM federated.version ORDER BY version")
    )
    # Of raw columns: the scalings of the two runs have a noise each.
    raw = [one["weight_0"] / one["scales"] for one in (first, second)]
    level = [
        one["bias_0"] - (one["weight_0"] * one["means"] / one["scales"]).sum(axis=1)
        for one in (first, second)
    ]
    assert raw[1] == pytest.approx(raw[0], rel=1e-4, abs=1e-6)
    assert level[1] == pytest.approx(level[0], rel=1e-3, abs=1e-4)
    assert abs(second["weight_1"] - first["weight_1"]).max() > 1e-4

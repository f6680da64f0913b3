"""Erasure, whole: subjects go, versions that learned from them are trained anew to the bits of a run without them."""

from __future__ import annotations

import json
import os
import pwd
import signal
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from psycopg import errors

from heliosdb.cli.verify_certificate import verify_file
from tests.integration.coordinator.orders_support import erase, found_federation, keyed, share_by_patient
from tests.integration.coordinator.support import (
    WORKSPACE,
    World,
    create_model,
    create_workspace,
)
from tests.support.federation import has_stopped

SITES = ("east", "north", "west")
FEWEST = ", min_rows = 2"
"""Whom a node holds out hangs on its secret: with 20 of 100, no fewer may be left, one withdrawn would be one too many."""
OPTIONS = f"{FEWEST}, plain_withdrawals = true"

MODELS = {
    "logistic": "algorithm = 'logistic_regression', learning_rate = 0.1",
    "newton": "algorithm = 'logistic_regression', optimizer = 'newton'",
    "poisson": "algorithm = 'poisson_regression', optimizer = 'newton'",
    "linear": "algorithm = 'linear_regression', optimizer = 'newton', target = 'pressure', features = ['age']",
    "forest": "algorithm = 'random_forest', trees = 4, max_depth = 2, bins = 16",
    "boosting": "algorithm = 'gradient_boosting', max_depth = 1, bins = 16",
    "network": "algorithm = 'neural_network', layers = [4, 1], learning_rate = 0.1",
}


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the server's own user."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        place = Path(name)
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(place, account.pw_uid, account.pw_gid)
        yield place


def status(world: World) -> list[dict[str, Any]]:
    """Return what federated_erasure_status shows."""
    return world.query("SELECT * FROM federated_erasure_status ORDER BY requested_at, request_id, node_name")


async def completed(world: World, count: int = 1) -> None:
    """Wait until so many requests are carried out."""
    await world.reached("SELECT count(*) >= %s FROM federated.erasure WHERE completed_at IS NOT NULL", count)


def versions(world: World, model: str = "risk") -> list[dict[str, Any]]:
    """Return a model's versions."""
    return world.query("SELECT * FROM federated_model_versions(%s)", model)


async def train_all(world: World, *, holds: bool) -> dict[str, str]:
    """Train every model in a federation of which two sites hold subject 42, or none does; returns the hashes."""
    create_workspace(world, min_nodes=3)
    for number, name in enumerate(SITES):
        site = await world.add_site(name, rows=100, seed=0.1 * (number + 1), shares=False)
        with world.cluster.connect(site.database) as connection:
            if not holds or name == "west":
                connection.execute("DELETE FROM patient WHERE patient_id = 42")
        share_by_patient(world, site, options=OPTIONS)
        world.register(site)
    for name, options in MODELS.items():
        given = (
            options
            if "target" in options
            else f"{options}, target = 'outcome', features = ['age', 'pressure']"
        )
        world.execute(
            f"CREATE FEDERATED MODEL {name} IN WORKSPACE {WORKSPACE} WITH ({given}, rounds = 2, seed = 7)"
        )
        world.execute(f"START FEDERATED TRAINING {name}")
    world.start_coordinator()
    await world.finished(count=len(MODELS))
    assert {one["status"] for one in world.runs()} <= {"completed", "converged"}, world.runs()
    return hashes(world, current=True)


def hashes(world: World, *, current: bool) -> dict[str, str]:
    """Return the hash of each model's current version, or of its first."""
    return {
        name: one["parameters_sha256"]
        for name in MODELS
        for one in versions(world, name)
        if (one["is_current"] if current else one["version"] == 1)
    }


def predictions(world: World) -> dict[str, list[float]]:
    """Return what each model predicts for some rows: of trees one row's prediction may stay."""
    query = (
        "SELECT array_agg(federated_predict(%s, one) ORDER BY place) AS predicted "
        "FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS given (one, place)"
    )
    found: dict[str, list[float]] = {}
    for name in MODELS:
        rows = [
            {"age": age} | ({} if name == "linear" else {"pressure": 90 + age}) for age in range(20, 90, 3)
        ]
        found[name] = world.query(query, name, json.dumps(rows))[0]["predicted"]
    return found


@pytest.mark.usefixtures("forked_with_torch")
async def test_a_model_that_is_trained_anew_has_the_bits_of_one_that_never_had_the_subject(
    world: World,
) -> None:
    without = replace(
        world, database=world.cluster.create_database("federated_template"), sites=[], coordinators=[]
    )
    try:
        expected = await train_all(without, holds=False)
    finally:
        without.clean_up()
    before = await train_all(world, holds=True)
    assert all(before[name] != expected[name] for name in MODELS), (before, expected)
    predicted = predictions(world)

    world.execute("DELETE FROM FEDERATED TRAINING logistic WHERE data_subject_id = '42'")
    await completed(world)

    assert hashes(world, current=True) == expected
    assert all(predictions(world)[name] != predicted[name] for name in MODELS)
    for one in status(world):
        assert (one["status"], one["exactness"]) == ("completed", "exact: trained anew from round 0")
        assert one["versions"] == sorted(f"{name}@1" for name in MODELS)
        assert one["sha256_before"] == [before[name] for name in sorted(MODELS)]
        assert one["sha256_after"] == [expected[name] for name in sorted(MODELS)]
    assert [(one["node_name"], one["node_state"], one["rows"]) for one in status(world)] == [
        ("east", "suppressed", 1),
        ("north", "suppressed", 1),
        ("west", "not held", 0),
    ]
    for name in MODELS:
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="was retired"):
            world.query("SELECT federated_predict(%s, '{}'::jsonb)", f"{name}@1")
    [kept] = world.query(
        "SELECT count(*) AS n FROM federated.run_parameters JOIN federated.run USING (run_id) WHERE erased_at IS NOT NULL"
    )
    assert kept["n"] == 0
    # What is imported again is left out again.
    with world.cluster.connect(world.sites[0].database) as connection:
        connection.execute("INSERT INTO patient VALUES (42, 99, 149, 1)")
    world.execute("START FEDERATED TRAINING logistic")
    await world.finished(count=2 * len(MODELS) + 1)
    assert hashes(world, current=True) == expected


async def founded(world: World, *names: str, rows: int = 60, options: str = OPTIONS) -> None:
    """A federation with one model of one version."""
    await found_federation(world, *names, rows=rows, options=options)
    world.start_coordinator()
    await keyed(world)
    world.execute("START FEDERATED TRAINING risk")
    assert (await world.finished())["status"] == "completed", world.runs()


def certificate(world: World) -> dict[str, Any]:
    """Return the certificate of the only request."""
    [found] = world.query(
        "SELECT federated_erasure_certificate(order_id) AS certificate FROM federated.erasure"
    )
    return dict(found["certificate"])


async def test_wherever_the_coordinator_is_killed_the_erasure_is_carried_out_once(world: World) -> None:
    await founded(world, "east", "west")
    world.coordinators[-1].kill()
    erase(world, "42")
    for point in ("planned", "queued", "retired", "certified"):
        await world.start_coordinator(faults=f"coordinator.erasure.{point}=kill").died()
    world.start_coordinator()
    await completed(world)
    await world.reached("NOT federated._has_erasure_work()")

    first, second = versions(world)
    assert (first["is_current"], second["is_current"]) == (False, True)
    assert first["parameters_sha256"] != second["parameters_sha256"]
    assert len(world.runs()) == 2
    told = world.query(
        "SELECT kind FROM federated.event WHERE kind LIKE 'erasure.%%' OR kind = 'version.retired'"
    )
    kinds = ("erasure.certified", "erasure.planned", "erasure.queued", "version.retired")
    assert sorted(one["kind"] for one in told) == list(kinds)
    certified = world.query("SELECT details FROM federated.audit WHERE object_kind = 'erasure'")
    assert len(certified) == 1
    await world.reached(
        "EXISTS (SELECT FROM federated.erasure AS e WHERE jsonb_array_length("
        "federated_erasure_certificate(e.order_id) -> 'inclusion' -> 'cosignatures') = 2)"
    )
    certified_offline(world)


def certified_offline(world: World) -> None:
    """Whoever has the file and the authority's certificate needs no database, and sees what was changed."""
    directory, authority = world.federation.directory, world.federation.directory / "ca.pem"
    authority.write_bytes(world.federation.authority.certificate_pem)
    whole = certificate(world)

    def shown(document: dict[str, Any]) -> tuple[bool, list[str]]:
        path, lines = directory / "c.json", list[str]()
        path.write_text(json.dumps(document))
        assert "'42'" not in path.read_text()
        return verify_file(path, authority, lines.append), lines

    is_good, lines = shown(whole)
    assert is_good, lines
    signers = [line.split(":")[0] for line in lines if line.startswith("signed by")]
    assert signers == [
        f"signed by {who}"
        for who in (
            "the coordinator",
            "node east",
            "node west",
            "the audit log's head",
            "witness east",
            "witness west",
        )
    ]
    assert not any(line.startswith("no proof") for line in lines)
    proof = whole["inclusion"]
    assert proof["entry"]["object_name"] == whole["certificate"]["request"]
    others = {"path": proof["path"][:-1], "leaf_index": proof["leaf_index"] - 1}
    for field, value in others.items():
        assert not shown(whole | {"inclusion": proof | {field: value}})[0], field
    # Once its entry is emptied for its age nobody can tell any more what that said.
    world.query("UPDATE federated.audit SET object_name = '', details = '{}' WHERE object_kind = 'erasure'")
    is_good, lines = shown(certificate(world))
    assert is_good, lines
    assert any(line.startswith("no proof that the audit log has it: its entry") for line in lines)


async def test_a_file_of_an_erased_run_is_refused(world: World, place: Path) -> None:
    await founded(world, "east", "west")
    world.execute(f"CHECKPOINT FEDERATED TRAINING risk TO '{place / 'round.bin'}'")
    erase(world, "42")
    await completed(world)

    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="from which nothing goes on") as caught:
        world.execute(f"RESUME FEDERATED TRAINING risk FROM '{place / 'round.bin'}'")
    assert caught.value.diag.message_detail == "Data subjects were erased whose rows it had read."
    assert certificate(world)["certificate"]["files"] == [str(place / "round.bin")]


async def test_versions_do_not_predict_meanwhile_where_the_request_says_so(world: World) -> None:
    await founded(world, "east", "west")
    [before] = world.query("SELECT federated_predict('risk', '{\"age\": 51}'::jsonb) AS p")
    world.sites[1].kill()
    world.execute(
        "DELETE FROM FEDERATED TRAINING risk WHERE data_subject_id = 'nobody' WITH (during_erasure = 'refuse')"
    )
    for call in (
        "federated_predict('risk', '{}'::jsonb)",
        'federated_model."risk@1"()',
        "federated_model.risk()",
    ):
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="while an erasure is carried out"):
            world.query(f"SELECT {call}")

    await world.start_site(world.sites[1])
    await completed(world)

    # Nobody held the subject: the version is what it was.
    assert world.query("SELECT federated_predict('risk', '{\"age\": 51}'::jsonb) AS p") == [before]
    [only] = versions(world)
    assert (only["is_current"], only["retired_at"]) == (True, None)
    assert {one["exactness"] for one in status(world)} == {
        "exact: no version had learned from a node that held the subject"
    }


async def test_only_suppressed_versions_stay_and_that_is_said(world: World) -> None:
    await founded(world, "east", "west")
    world.execute(
        "DELETE FROM FEDERATED TRAINING risk WHERE data_subject_id = '42' WITH (method = 'suppress_only')"
    )
    await completed(world)

    [only] = versions(world)
    assert (only["is_current"], only["retired_at"]) == (True, None)
    assert {one["exactness"] for one in status(world)} == {
        "approximate: suppressed only, versions keep what they learned"
    }
    assert len(world.runs()) == 1


async def test_a_run_under_way_is_begun_anew_without_the_subject(world: World) -> None:
    _, west = await found_federation(world, "east", "west", options=OPTIONS)
    # It stops where it is first asked for something.
    west.kill()
    await world.start_site(west, faults="node.task.received=stop")
    assert west.process is not None
    world.start_coordinator()
    await keyed(world)
    world.execute("START FEDERATED TRAINING risk WITH (rounds = 2)")
    await world.reached(
        "EXISTS (SELECT FROM federated.participation JOIN federated.node USING (node_id)"
        " WHERE name = 'west' AND outcome = 'pending')"
    )
    # The task is on its way to it; an order would be carried out first.
    await has_stopped(west.process.process.pid)
    erase(world, "42")
    await world.reached(
        "EXISTS (SELECT FROM federated.order_answer WHERE node_name = 'east' AND state = 'answered')"
    )

    # Nobody waits for the other node any longer: the request goes on with those that have answered.
    world.query("UPDATE federated.subject_order SET deadline = now()")
    ended = await world.finished()
    west.process.process.send_signal(signal.SIGCONT)

    assert ended["status"] == "failed"
    assert ended["message"].endswith("it is begun anew without them")
    assert (await world.finished(count=2))["status"] == "completed", world.runs()
    await completed(world)
    again = world.query("SELECT options, overrides, seed_run FROM federated.run ORDER BY created_at")
    assert again[1] == again[0] | {"seed_run": ended["run_id"]}
    [only] = versions(world)
    assert (only["is_current"], only["retired_at"]) == (True, None)
    exact = "exact: no version had learned from a node that held the subject"
    [said] = {one["exactness"] for one in status(world)}
    # Whether the other node's word comes before the request is over is a race; a late one counts as any.
    assert said in (exact, f"incomplete: no word of west; of the others {exact}")


async def test_a_node_that_gives_no_plain_answers_is_waited_for_until_its_dba_lets_it(world: World) -> None:
    await founded(world, "east", "west", options=FEWEST)
    erase(world, "42")
    await world.reached(
        "EXISTS (SELECT FROM federated.erasure WHERE message LIKE '%%trained anew: run %% failed: %%')"
    )
    [waiting] = world.query("SELECT DISTINCT message, status FROM federated_erasure_status")
    assert waiting["status"] == "retraining"
    assert "federated_accept_withdrawals" in waiting["message"], waiting

    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            connection.execute("SELECT federated_accept_withdrawals('patients')")
    await completed(world)

    first, second = versions(world)
    assert (first["is_current"], second["is_current"]) == (False, True)


async def test_what_training_anew_may_spend_is_said_and_refused_where_the_budget_cannot_pay(
    world: World,
) -> None:
    create_workspace(world, privacy_budget=4.0, noise_multiplier=20.0)
    for number, name in enumerate(("east", "west")):
        site = await world.add_site(name, rows=200, seed=0.1 * (number + 1), shares=False)
        share_by_patient(world, site)
        world.register(site)
    create_model(world, rounds=2)
    world.start_coordinator()
    await keyed(world)
    world.execute("START FEDERATED TRAINING risk")
    assert (await world.finished())["status"] == "completed", world.runs()
    with world.catalog() as connection:
        notices: list[str] = []
        connection.add_notice_handler(lambda one: notices.append(str(one.message_primary)))
        deletion = "DELETE FROM FEDERATED TRAINING risk WHERE data_subject_id = '42'"
        connection.execute("CALL federated.execute(%s)", [deletion])
        assert "may spend epsilon" in notices[0]
        await completed(world)
        assert len(versions(world)) == 2
        world.query("ALTER TABLE federated.workspace DISABLE TRIGGER ALL")
        connection.execute(
            "UPDATE federated.workspace SET options = options || jsonb_build_object('privacy_budget',"
            " (SELECT max(epsilon_tight) FROM federated.ledger))"
        )
        with pytest.raises(errors.DatabaseError, match="cannot pay for training") as caught:
            connection.execute("CALL federated.execute(%s)", [deletion])
        assert "suppress_only" in str(caught.value.diag.message_hint)
        connection.execute("CALL federated.execute(%s)", [deletion + " WITH (method = 'suppress_only')"])
    assert len({one["request_id"] for one in status(world)}) == 2


def recognition(members: Sequence[float], strangers: Sequence[float]) -> float:
    """The area under the curve of telling members from strangers by a score."""
    pairs = [(a > b) + (a == b) / 2 for a in members for b in strangers]
    return sum(pairs) / len(pairs)


def confidence(world: World, people: Sequence[Sequence[float]]) -> list[float]:
    """How sure the current version is of what is true of each: age, pressure, weight, height and outcome."""
    with world.catalog() as connection:
        rows = connection.execute(
            "SELECT federated_model.risk(r[1], r[2], r[3], r[4]) AS p FROM jsonb_array_elements(%s::jsonb)"
            " WITH ORDINALITY AS k (j, place) CROSS JOIN LATERAL"
            " (SELECT ARRAY(SELECT v::float8 FROM jsonb_array_elements_text(j) AS v) AS r) AS s ORDER BY place",
            [json.dumps(people)],
        ).fetchall()
    return [one["p"] if who[-1] else 1 - one["p"] for one, who in zip(rows, people, strict=True)]


async def test_a_model_that_knew_its_subjects_by_heart_knows_those_erased_no_longer(world: World) -> None:
    random = Random(1)
    people = [[*(random.gauss(0, 1) for _ in range(4)), random.randrange(2)] for _ in range(1200)]
    create_workspace(world, min_nodes=2)
    for number, name in enumerate(("east", "west")):
        site = await world.add_site(name, rows=1, shares=False)
        with world.cluster.connect(site.database) as connection:
            connection.execute(
                "CREATE TABLE person (id integer, age float8, pressure float8, weight float8, height float8, outcome integer"
                " CHECK (outcome IN (0, 1)))"
            )
            with connection.cursor().copy("COPY person FROM STDIN") as copy:
                for place in range(number, 400, 2):
                    copy.write_row((place, *people[place]))
            connection.execute(
                "CALL federated.execute(%s)",
                [
                    "CREATE FEDERATED DATASET persons FOR TABLE person (age, pressure, weight, height, outcome)"
                    f" IN WORKSPACE {WORKSPACE} WITH (subject = 'id', min_rows = 1, max_parameter_share = 1000, plain_withdrawals = true)"
                ],
            )
        world.register(site)
    world.execute(
        f"CREATE FEDERATED MODEL risk IN WORKSPACE {WORKSPACE} WITH (algorithm = 'random_forest', trees = 12,"
        " max_depth = 16, bins = 256, min_rows_per_leaf = 1, validation_split = 0, seed = 7, target = 'outcome',"
        " features = ['age', 'pressure', 'weight', 'height'])"
    )
    world.start_coordinator()
    await keyed(world)
    world.execute("START FEDERATED TRAINING risk")
    assert (await world.finished())["status"] == "completed", world.runs()
    erased, strangers = people[:200], people[400:]
    assert recognition(confidence(world, erased), confidence(world, strangers)) >= 0.9

    erase(world, *map(str, range(200)))
    await completed(world, 200)

    assert recognition(confidence(world, erased), confidence(world, strangers)) == pytest.approx(
        0.5, abs=0.05
    )
    # One statement, one run.
    assert len(world.runs()) == 2

"""EXPLAIN START FEDERATED TRAINING and SHOW FEDERATED on a real server: what a catalog alone can tell."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from psycopg import errors

from tests.integration.extension.commands_support import MODEL, WORKSPACE, execute, fetch
from tests.support.cluster import Cluster

TYPES = {"age": "double precision", "bmi": "double precision", "outcome": "boolean"}
START = "START FEDERATED TRAINING risk"
SHOWN = {
    "workspaces": ("federated_workspaces", "workspace_name"),
    "nodes": ("federated_nodes", "node_name"),
    "models": ("federated_models", "model_name"),
    "runs": ("federated_runs", "model_name"),
    "datasets": ("federated_datasets", "dataset_name"),
}


def lines(session: psycopg.Connection, statement: str) -> list[str]:
    return [line for (line,) in session.execute("SELECT * FROM federated.explain(%s)", [statement])]


def plan(session: psycopg.Connection, statement: str = START) -> dict[str, Any]:
    (text,) = lines(session, f"EXPLAIN (FORMAT JSON) {statement}")
    (only,) = json.loads(text)
    found: dict[str, Any] = only["Federated Training"]
    return found


def shares(**different: object) -> str:
    """What a node says that it shares, with other types of some columns."""
    types = {**TYPES, **{name: value for name, value in different.items() if name in TYPES}}
    described = {
        "name": "visits",
        "columns": list(types),
        "types": list(types.values()),
        "plain_answers": different.get("plain_answers", True),
    }
    return json.dumps([{**described, "declared": [], "paused": different.get("paused", False)}])


def meet(session: psycopg.Connection, name: str, *, workspace: str = "clinics", **said: object) -> None:
    """Register a node and have it met, as the coordinator records it."""
    execute(
        session,
        f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE {workspace} WITH (endpoint = 'https://{name}:1')",
    )
    session.execute(
        "UPDATE federated.node SET status = 'active', dataset_size = 500, plain_answers = true, datasets = %s"
        " WHERE name = %s",
        [shares(**said), name],
    )


@pytest.fixture
def clinics(session: psycopg.Connection) -> psycopg.Connection:
    """A workspace with a budget, a model and three nodes that were met."""
    execute(session, WORKSPACE, MODEL)
    for name in ("north", "south", "west"):
        meet(session, name)
    session.execute("INSERT INTO federated.lease (epoch, holder) VALUES (1, 'coordinator')")
    return session


def changes(session: psycopg.Connection) -> list[tuple]:
    return fetch(
        session,
        "SELECT (SELECT count(*) FROM federated.run), (SELECT count(*) FROM federated.ledger),"
        " (SELECT count(*) FROM federated.audit), (SELECT count(*) FROM federated.event)",
    )


def test_a_start_that_is_allowed_is_told_whole_and_changes_nothing(clinics: psycopg.Connection) -> None:
    before = changes(clinics)
    told = plan(clinics, f"{START} WITH (rounds = 7)")

    assert (told["Start"], told["Refusals"], told["Remarks"]) == ("would queue one run", [], [])
    assert (told["Workspace"], told["Algorithm"], told["Aggregation"]) == (
        "clinics",
        "logistic_regression",
        "fedavg",
    )
    assert {one["Name"]: one["Takes Part"] for one in told["Nodes"]["Members"]} == dict.fromkeys(
        ("north", "south", "west"), "can take part"
    )
    assert told["Rounds"]["Training Rounds"] == 7
    assert (told["Rounds"]["Parameters"], told["Rounds"]["Estimated Bytes Up"]) == (3, 24)
    private = told["Privacy"]
    assert (private["Budget Epsilon"], private["Consumed Epsilon"]) == (0.5, 0.0)
    assert 0.49 < private["Epsilon after the Run"] <= 0.5
    assert private["Fits the Budget"] is True
    assert [one["Times"] for one in private["Releases"]] == [1, 1, 1, 7]
    assert told["Time"]["Expected Seconds"] is None
    assert "phi_check" in told["Protection"]["Held by It"]

    text = lines(clinics, f"EXPLAIN {START} WITH (rounds = 7)")
    assert text[0] == "Federated Training: risk"
    assert "  ->  Nodes: 3 of 3 can take part, 3 needed" in text
    assert changes(clinics) == before
    assert fetch(clinics, "SELECT status FROM federated.run") == []


def test_a_secure_sum_is_told_with_its_messages_and_how_many_it_takes(session: psycopg.Connection) -> None:
    execute(session, "CREATE FEDERATED WORKSPACE clinics", MODEL)
    for name in ("north", "south", "west"):
        meet(session, name)
    plain, told = plan(session), plan(session, f"{START} WITH (secure_aggregation = true)")
    assert (plain["Nodes"]["Answers a Round Needs"], told["Nodes"]["Answers a Round Needs"]) == (2, 3)
    assert told["Protection"]["Sum Protocol"].startswith("shamir: the coordinator sees the sum")
    name = "Exchanges in a Training Round"
    assert told["Rounds"][name] == 5 * plain["Rounds"][name]


def test_it_is_told_what_stays_at_nodes_and_that_images_are_files(session: psycopg.Connection) -> None:
    execute(
        session,
        "CREATE FEDERATED WORKSPACE clinics",
        "CREATE FEDERATED MODEL risk IN WORKSPACE clinics WITH (algorithm = 'cnn', features = ['age'],"
        " target = 'outcome', input_shape = [1, 8, 8])",
    )
    for name in ("north", "south", "west"):
        meet(session, name, age="bytea")
    session.execute("UPDATE federated.node SET extras = '{neural,images}'")

    told = plan(session, f"{START} WITH (personalization = 'ditto')")

    assert told["Images"] == 'files, decoded by the extra "images" of each node'
    assert told["Personalization"].startswith("ditto: at the end one more exchange")
    assert "Personalization" not in plan(session)


def test_groups_are_told_with_their_sizes_and_how_many_nodes_they_need(session: psycopg.Connection) -> None:
    execute(session, "CREATE FEDERATED WORKSPACE clinics", MODEL)
    for number in range(10):
        meet(session, f"n{number}")
    chosen = f"{START} WITH (secure_aggregation = true, aggregation = 'median', robust_groups = 3)"
    told = plan(session, chosen)
    assert (told["Nodes"]["Groups"], told["Nodes"]["Needed"]) == (3, 9)
    assert "combines the means of 3 groups" in told["Protection"]["Aggregation Rule"]
    assert "sees the sum of each of 3 groups' updates" in told["Protection"]["Sum Protocol"]
    assert any(
        "of 3 or 4 nodes, drawn once round 0 is done" in line for line in lines(session, f"EXPLAIN {chosen}")
    )


def test_it_is_told_that_nodes_of_a_group_add_all_of_the_noise(session: psycopg.Connection) -> None:
    execute(session, "CREATE FEDERATED WORKSPACE clinics WITH (privacy_budget = 2)", MODEL)
    for number in range(9):
        meet(session, f"n{number}")
    plain, grouped = (
        plan(session, f"{START} WITH (secure_aggregation = true{more})")["Protection"]["Noise"]
        for more in ("", ", aggregation = 'median', robust_groups = 3")
    )
    assert plain.startswith("each node's share")
    assert grouped == (
        f"{plain}; unless its DBA counts on fewer than all others of its group, each node adds all of the"
        " noise of that group's sum"
    )


@pytest.mark.parametrize("charged", ["north", "south", "west"])
def test_of_groups_that_vote_the_most_charged_node_s_is_told(
    clinics: psycopg.Connection, charged: str
) -> None:
    execute(clinics, "ALTER FEDERATED WORKSPACE clinics SET (min_nodes = 1)")
    chosen = f"{START} WITH (voting_groups = 3)"
    before = plan(clinics, chosen)["Privacy"]["Epsilon of the Run"]
    clinics.execute(
        "INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name,"
        " noise_multiplier, sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight, exchange)"
        " VALUES ('clinics', gen_random_uuid(), 'risk', 0, 'statistics', %s, 20, 1, 1, 0.2, 0.2, 0.2, 0)",
        [charged],
    )

    assert plan(clinics, chosen)["Privacy"]["Epsilon of the Run"] < before - 0.05


def test_of_groups_that_vote_the_nodes_of_one_are_asked_at_a_time(clinics: psycopg.Connection) -> None:
    meet(clinics, "east")
    execute(clinics, "ALTER FEDERATED WORKSPACE clinics SET (min_nodes = 1)")

    nodes = plan(clinics, f"{START} WITH (voting_groups = 3)")["Nodes"]

    assert (nodes["Able"], nodes["Needed"], nodes["Asked a Round"]) == (4, 1, 2)
    text = lines(clinics, f"EXPLAIN {START} WITH (voting_groups = 3)")
    assert any("4 of 4 can take part, 1 of each of 3 groups needed" in line for line in text)
    assert any("Asked a Round: 2 at most, of one group" in line for line in text)


def test_what_a_site_decides_is_not_said_to_be_refused(session: psycopg.Connection) -> None:
    execute(session, "CREATE FEDERATED WORKSPACE clinics WITH (min_nodes = 2)", MODEL)
    for name in ("north", "south"):
        meet(session, name, plain_answers=False)

    told = plan(session)["Privacy"]

    assert told["Would Refuse by Default"] == []
    assert told["As Their Sites Allow"] == ["north", "south"]
    execute(session, "ALTER FEDERATED WORKSPACE clinics SET (compliance_mode = 'GDPR')")
    told = plan(session)["Privacy"]
    assert len(told["Would Refuse by Default"]) == 2
    assert "As Their Sites Allow" not in told


def test_each_node_says_why_it_cannot_take_part(clinics: psycopg.Connection) -> None:
    for name, said in {"paused": {"paused": True}, "texts": {"age": "text"}}.items():
        meet(clinics, name, **said)
    for name, change in {
        "down": "status = 'failed', failure_reason = 'connection refused'",
        "expired": "certificate_expires = now() - interval '1 hour'",
        "new": "status = 'pending', datasets = NULL",
        "slow": "status = 'slow', failure_reason = 'timed out'",
    }.items():
        meet(clinics, name)
        clinics.execute(f"UPDATE federated.node SET {change} WHERE name = '{name}'")  # type: ignore[arg-type]

    nodes = plan(clinics)["Nodes"]

    found = {one["Name"]: (one["Takes Part"], one.get("Reason", "")) for one in nodes["Members"]}
    assert found["down"] == ("cannot", "connection refused")
    assert found["expired"] == ("cannot", "its certificate has expired")
    assert found["new"] == ("unknown", "the coordinator has not met it yet")
    assert found["slow"] == ("unknown", "it misses heartbeats (timed out)")
    assert found["paused"][0] == found["texts"][0] == "cannot"
    assert "paused" in found["paused"][1]
    assert "is of type text" in found["texts"][1]
    assert found["north"] == ("can take part", "")
    assert nodes["Registered"] == len(found) == 9


def test_what_start_refuses_is_a_line_and_what_is_unknown_is_an_error(clinics: psycopg.Connection) -> None:
    with pytest.raises(errors.InvalidParameterValue, match='parameter "round"') as unknown:
        lines(clinics, f"EXPLAIN {START} WITH (round = 7)")
    assert unknown.value.diag.message_hint is not None
    with pytest.raises(errors.InvalidParameterValue, match="rounds"):
        lines(clinics, f"EXPLAIN {START} WITH (rounds = -7)")
    with pytest.raises(errors.UndefinedObject, match='model "nobody" does not exist'):
        lines(clinics, "EXPLAIN START FEDERATED TRAINING nobody")
    for wrong in (START, "SELECT 1", "SHOW FEDERATED NODES", "EXPLAIN STOP FEDERATED TRAINING risk"):
        with pytest.raises(errors.SyntaxError):
            lines(clinics, wrong)
    with pytest.raises(errors.FeatureNotSupported, match="ANALYZE"):
        lines(clinics, f"EXPLAIN ANALYZE {START}")
    with pytest.raises(errors.InvalidParameterValue):
        clinics.execute("SELECT * FROM federated.explain(NULL)")
    with pytest.raises(errors.FeatureNotSupported, match="answers with rows"):
        execute(clinics, f"EXPLAIN {START}")

    execute(clinics, START)
    assert "is in training (55006)" in plan(clinics)["Refusals"][0]["Name"]
    execute(clinics, "STOP FEDERATED TRAINING risk")
    execute(clinics, "CREATE FEDERATED MODEL bare IN WORKSPACE clinics")
    bare = plan(clinics, "START FEDERATED TRAINING bare")
    assert "is incomplete: algorithm, features, target not set (55000)" in bare["Refusals"][0]["Name"]
    assert (bare["Start"], bare["Rounds"]["Name"]) == (
        "would be refused",
        "unknown: the options name no whole run",
    )
    private = plan(clinics, f"{START} WITH (adaptive_learning = true)")
    assert "not supported under a privacy_budget yet (0A000)" in private["Refusals"][0]["Name"]
    clinics.execute(
        "INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name,"
        " noise_multiplier, sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight, exchange)"
        " VALUES ('clinics', gen_random_uuid(), 'risk', 0, 'statistics', 'north', 8, 1, 1, 0.56, 0.56, 0.56, 0)"
    )
    spent = plan(clinics)
    assert "is spent (UF001)" in spent["Refusals"][0]["Name"]
    assert "is spent" in spent["Privacy"]["Ends at Once"]
    assert {one["Name"]: one["Epsilon Spent"] for one in spent["Nodes"]["Members"]} == {
        "north": 0.56,
        "south": 0.0,
        "west": 0.0,
    }


def test_without_a_budget_the_mode_and_the_nodes_rules_are_told(session: psycopg.Connection) -> None:
    execute(
        session, "CREATE FEDERATED WORKSPACE clinics WITH (compliance_mode = 'GDPR', min_nodes = 2)", MODEL
    )
    meet(session, "north")
    meet(session, "south")
    session.execute("UPDATE federated.node SET plain_answers = false, dataset_size = 8 WHERE name = 'south'")

    told = plan(session)

    assert "refused under compliance_mode GDPR (22023)" in told["Refusals"][0]["Name"]
    assert told["Refusals"][0]["Detail"] == "Not allowed by south."
    assert told["Privacy"]["Would Refuse by Default"] == ["south (8 rows, fewer than min_rows)"]
    assert "consenting subjects alone" in told["Protection"]["Consent"]
    assert [one["Name"] for one in told["Remarks"]] == [
        "no coordinator serves this database yet; the run waits for one"
    ]
    series = plan(session, f"{START} WITH (folds = 3)")
    assert "Remarks" in series
    assert series["Rounds"]["Training Rounds"] == 5


def test_an_asynchronous_round_asks_those_that_are_free_and_closes_with_so_many(
    session: psycopg.Connection,
) -> None:
    options = "min_nodes = 2, async_aggregation = true, aggregation_batch_size = 2"
    execute(session, f"CREATE FEDERATED WORKSPACE clinics WITH ({options})", MODEL)
    for name in ("north", "south", "west"):
        meet(session, name)

    text = [line.strip() for line in lines(session, f"EXPLAIN {START}")]

    assert [line for line in text if "Asked" in line] == ["Asked a Round: 3 at most"]
    assert {"Answers a Round Needs: 2", "Rounds: asynchronous"} <= set(text)
    assert "Training Rounds: 5" in text


def test_who_may_read_the_catalog_may_explain_and_show(cluster: Cluster, clinics: psycopg.Connection) -> None:
    clinics.execute("CREATE TABLE visit (id integer, age float8)")
    execute(clinics, "CREATE FEDERATED DATASET visits FOR TABLE visit (age) IN WORKSPACE clinics")
    execute(clinics, START)
    names = {"workspaces": "clinics", "models": "risk", "runs": "risk", "datasets": "visits"}
    for role in ("federated_analyst", "federated_auditor"):
        clinics.execute(f"SET ROLE {role}")  # type: ignore[arg-type]
        refused = {one["Name"] for one in plan(clinics)["Refusals"]}
        assert "permission denied to start federated training (42501)" in refused
        for kind, (view, column) in SHOWN.items():
            shown = fetch(clinics, f"SELECT {column} FROM federated.show_{kind}('clinics')")
            assert shown == fetch(clinics, f"SELECT {column} FROM {view} ORDER BY 1")
            assert shown[0][0] == names.get(kind, "north")
            assert fetch(clinics, f"SELECT {column} FROM federated.show_{kind}()") == shown
            with pytest.raises(errors.UndefinedObject, match='workspace "nowhere" does not exist'):
                clinics.execute(f"SELECT * FROM federated.show_{kind}('nowhere')")  # type: ignore[arg-type]
        clinics.execute("RESET ROLE")
    clinics.execute("CREATE ROLE nobody_yet")
    clinics.execute("SET ROLE nobody_yet")
    for call in ("explain('EXPLAIN START FEDERATED TRAINING risk')", *(f"show_{kind}()" for kind in SHOWN)):
        with pytest.raises(errors.InsufficientPrivilege):
            clinics.execute(f"SELECT * FROM federated.{call}")  # type: ignore[arg-type]
    clinics.execute("RESET ROLE")
    clinics.execute("DROP ROLE nobody_yet")


def test_the_views_show_what_the_statements_made(clinics: psycopg.Connection) -> None:
    clinics.execute("CREATE TABLE visit (id integer, person text, age float8)")
    execute(
        clinics,
        "CREATE FEDERATED DATASET visits FOR TABLE visit (age) WHERE (age > 0) IN WORKSPACE clinics"
        " WITH (subject = 'person', min_rows = 30, max_epsilon = 1.5, paused = true)",
    )
    assert fetch(clinics, "SELECT model_name, status, runs, version, features FROM federated_models") == [
        ("risk", "untrained", 0, None, ["age", "bmi"])
    ]
    execute(clinics, START)
    assert fetch(clinics, "SELECT status, runs FROM federated_models") == [("queued", 1)]
    assert fetch(
        clinics,
        "SELECT compliance_mode, nodes, active_nodes, min_nodes, models, privacy_budget, consumed_epsilon"
        " FROM federated_workspaces",
    ) == [("HIPAA", 3, 3, 3, 1, 0.5, 0.0)]
    assert fetch(clinics, "SELECT node_name, status, endpoint, datasets FROM federated_nodes LIMIT 1") == [
        ("north", "active", "https://north:1", ["visits"])
    ]
    assert fetch(
        clinics,
        "SELECT workspace_name, state, subject, min_rows, max_epsilon, charges, epsilon_tight, predicate"
        " FROM federated_datasets",
    ) == [("clinics", "paused", "person", 30, 1.5, 0, None, "age > 0")]

"""What is wrong with a budget is said before anything is released, with figures: typed, at START and by EXPLAIN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.integration.extension.commands_support import execute, fetch
from tests.integration.extension.test_explain import START, meet, plan, shares

MODEL = (
    "CREATE FEDERATED MODEL risk IN WORKSPACE clinics WITH (algorithm = 'logistic_regression',"
    " features = ['age', 'bmi'], target = 'outcome', rounds = 5{})"
)


@dataclass(frozen=True)
class Said:
    """A NOTICE or WARNING: a Diagnostic is read while it is handled."""

    severity: str | None
    message: str
    detail: str
    hint: str


Heard = list[Said]


@pytest.fixture
def heard(session: psycopg.Connection) -> Heard:
    """What the session is told beside its answers."""
    said: Heard = []

    def hear(told: psycopg.errors.Diagnostic) -> None:
        texts = (told.message_primary, told.message_detail, told.message_hint)
        said.append(Said(told.severity, *(text or "" for text in texts)))

    session.add_notice_handler(hear)
    return said


def create(session: psycopg.Connection, options: str, *, nodes: int = 3, model: str = "") -> None:
    """A workspace of these options with nodes that were met, and a model."""
    execute(session, f"CREATE FEDERATED WORKSPACE clinics WITH ({options})")
    for number in range(nodes):
        meet(session, f"node_{number}")
    execute(session, MODEL.format(model))
    session.execute("INSERT INTO federated.lease (epoch, holder) VALUES (1, 'coordinator')")


def refused(session: psycopg.Connection, statement: str) -> tuple[str | None, str | None, str | None]:
    """How a statement is refused: SQLSTATE, message, DETAIL."""
    with pytest.raises(psycopg.Error) as caught:
        execute(session, statement)
    told = caught.value.diag
    return told.sqlstate, told.message_primary, told.message_detail


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("privacy_budget = 0", "privacy_budget"),
        ("privacy_budget = -1", "privacy_budget"),
        ("privacy_budget = 1, delta = 0.1", "delta"),
        ("privacy_budget = 1, delta = 0", "delta"),
        ("privacy_budget = 1, clipping_threshold = 0", "clipping_threshold"),
        ("privacy_budget = 1, noise_multiplier = 0", "noise_multiplier"),
        ("privacy_budget = 1, privacy_per_round = 0", "privacy_per_round"),
        ("privacy_budget = 1, privacy_per_round = 2", "privacy_per_round"),
        ("noise_mechanism = 'laplacian'", "noise_mechanism has no effect without a privacy_budget"),
        ("subjects_overlap = true", "subjects_overlap has no effect without a privacy_budget"),
        ("adaptive_clipping = true", "adaptive_clipping has no effect without a privacy_budget"),
        ("trust_model = 'local'", "trust_model has no effect without a privacy_budget"),
        ("delta = 1e-6", "delta has no effect without a privacy_budget"),
    ],
)
def test_a_workspace_of_such_options_is_not_made(
    session: psycopg.Connection, options: str, said: str
) -> None:
    sqlstate, message, _ = refused(session, f"CREATE FEDERATED WORKSPACE clinics WITH ({options})")

    assert sqlstate == "22023"
    assert said in str(message)
    assert fetch(session, "SELECT FROM federated.workspace") == []


def test_a_budget_is_not_taken_from_options_that_need_it(session: psycopg.Connection) -> None:
    create(session, "privacy_budget = 1, noise_mechanism = 'laplacian', subjects_overlap = true")

    sqlstate, message, _ = refused(session, "ALTER FEDERATED WORKSPACE clinics RESET (privacy_budget)")

    assert sqlstate == "22023"
    assert message == "noise_mechanism has no effect without a privacy_budget"
    execute(
        session,
        "ALTER FEDERATED WORKSPACE clinics RESET (privacy_budget, noise_mechanism, subjects_overlap)",
    )
    sqlstate, _, _ = refused(session, "ALTER FEDERATED WORKSPACE clinics SET (subjects_overlap = true)")
    assert sqlstate == "22023"


def test_a_delta_that_is_no_less_than_one_in_the_rows_is_warned_of_wherever_rows_are_known(
    session: psycopg.Connection, heard: Heard
) -> None:
    said = "delta 1e-05 is not less than one in the 120000 rows"
    create(session, "privacy_budget = 1", nodes=0)
    for name in ("north", "south"):
        declared = f"endpoint = 'https://{name}:1', dataset_size = 60000"
        execute(session, f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE clinics WITH ({declared})")
    heard.clear()

    execute(session, MODEL.format("").replace("MODEL risk", "MODEL other"))
    execute(session, "ALTER FEDERATED WORKSPACE clinics SET (privacy_budget = 2)")
    execute(session, START)

    warned = [one for one in heard if said in one.message]
    assert [one.severity for one in warned] == ["WARNING"] * 3
    assert any(said in one["Name"] for one in plan(session)["Remarks"])
    heard.clear()
    execute(session, "ALTER FEDERATED WORKSPACE clinics SET (delta = 1e-7)")
    assert not any("delta" in one.message for one in heard)


def test_of_noise_multiplier_and_budget_it_is_said_that_the_stricter_decides(
    session: psycopg.Connection, heard: Heard
) -> None:
    create(session, "privacy_budget = 1, noise_multiplier = 3")

    execute(session, START)

    (notice,) = [one for one in heard if "noise_multiplier 3" in one.message]
    assert notice.severity == "NOTICE"
    assert "the stricter decides" in notice.message


@pytest.mark.parametrize(
    ("nodes", "threshold", "message"),
    [
        (6, 3, "threshold 3 is not more than half of the 6 that a round can have"),
        (3, 4, "threshold 4 is more nodes than the 3 that a round can have"),
    ],
)
def test_a_threshold_is_more_than_half_of_the_nodes_and_no_more_than_there_are(
    session: psycopg.Connection, nodes: int, threshold: int, message: str
) -> None:
    create(session, "privacy_budget = 1", nodes=nodes)

    found = refused(session, f"{START} WITH (secure_aggregation = true, threshold = {threshold})")

    assert found[:2] == ("22023", message)
    assert found[2] is not None
    assert fetch(session, "SELECT FROM federated.run") == []


def test_a_budget_that_is_smaller_than_one_round_is_warned_of_with_its_figures(
    session: psycopg.Connection, heard: Heard
) -> None:
    create(session, "privacy_budget = 1e-7")

    told = plan(session)
    ends = told["Privacy"]["Ends at Once"]
    execute(session, START)

    (warning,) = [one for one in heard if "less than one round needs" in one.message]
    remarked = f"{warning.message}. {warning.detail} {warning.hint}"
    assert [one["Name"] for one in told["Remarks"]].count(remarked) == 1
    assert warning.severity == "WARNING"
    assert warning.message.startswith("the run will end before a node is asked: ")
    assert "Epsilon 1e-07 at delta 1e-05 calls for a noise_multiplier of" in warning.detail
    assert warning.hint
    assert warning.detail in ends


def test_a_budget_that_reaches_is_not_warned_of(session: psycopg.Connection, heard: Heard) -> None:
    create(session, "privacy_budget = 1")

    execute(session, START)

    assert [one.message for one in heard] == []


def test_too_few_nodes_that_are_left_are_warned_of(session: psycopg.Connection, heard: Heard) -> None:
    create(session, "privacy_budget = 1, min_nodes = 2, min_nodes_per_round = 3", nodes=4)

    for name in ("node_0", "node_1"):
        execute(session, f"UNREGISTER FEDERATED NODE '{name}' FROM WORKSPACE clinics")

    (warning,) = [one for one in heard if "a round needs" in one.message]
    assert warning.severity == "WARNING"
    assert warning.message == (
        'federated workspace "clinics" has 2 nodes left, and a round needs 3 (min_nodes_per_round)'
    )


def of_subjects(session: psycopg.Connection, **start: Any) -> dict[str, Any]:
    options = ", ".join(f"{name} = {value}" for name, value in start.items())
    found: dict[str, Any] = plan(session, f"{START} WITH ({options})" if options else START)
    return found


def test_before_the_first_run_it_is_not_known_whether_there_is_a_report(session: psycopg.Connection) -> None:
    create(session, "privacy_budget = 4")
    session.execute("UPDATE federated.node SET dataset_size = NULL")

    told = of_subjects(session)
    secret = of_subjects(session, secure_aggregation="true")
    without = of_subjects(session, validation_split="0")

    assert told["Rounds"]["Report of the Published Model"] is None
    assert without["Rounds"]["Report of the Published Model"] is False
    assert "only round 0 tells" in told["Privacy"]["Unknown"]
    assert "of single nodes nothing does under a secure sum" in secret["Privacy"]["Unknown"]
    for number in range(3):
        declared = f"ALTER FEDERATED NODE 'node_{number}' IN WORKSPACE clinics SET (dataset_size = 5000)"
        execute(session, declared)
    # As the coordinator leaves them when it has met them again.
    session.execute("UPDATE federated.node SET status = 'active', datasets = %s", [shares()])

    known = of_subjects(session, secure_aggregation="true")

    assert "Unknown" not in known["Privacy"]
    assert 3.9 < known["Privacy"]["Epsilon after the Run"] <= 4.0
    assert [one["Rows"] for one in known["Nodes"]["Members"]] == [5000] * 3
    assert of_subjects(session)["Rounds"]["Report of the Published Model"] is True

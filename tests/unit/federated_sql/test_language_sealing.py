"""Data subjects are named to the server by what only the coordinator can read."""

from __future__ import annotations

from base64 import b64encode
from itertools import count

import pytest

from federated_sql import FederatedError, parse, rewrite
from federated_sql.rewrite import Rewrite
from federated_sql.sealing import SUBJECT_KINDS

CANARY = "kanarie-7731"


def sealing(text: str) -> tuple[Rewrite, list[str]]:
    """What a text becomes, and which subjects were sealed, each to a text of its own."""
    numbers, subjects = count(), list[str]()

    def seal(kind: str, subject: str) -> str:
        assert kind in SUBJECT_KINDS.values()
        subjects.append(subject)
        return b64encode(f"sealed {next(numbers)}".encode()).decode()

    found = rewrite(text, seal)
    assert found is not None
    return found, subjects


@pytest.mark.parametrize(
    ("statement", "subjects"),
    [
        (f"DELETE FROM FEDERATED TRAINING m WHERE data_subject_id = '{CANARY}'", [CANARY]),
        (f"DELETE FROM FEDERATED TRAINING m WHERE data_subject_id IN ('{CANARY}', 'b', '{CANARY}')", [CANARY, "b"]),
        (f"EXPORT FEDERATED DATA FOR SUBJECT '{CANARY}' FROM WORKSPACE w TO '/p' FORMAT 'csv'", [CANARY]),
        (f"GRANT FEDERATED CONSENT FOR SUBJECT $${CANARY}$$ PURPOSE 'p' IN WORKSPACE w VERSION '2'", [CANARY]),
        (f"REVOKE FEDERATED CONSENT FOR SUBJECT E'{CANARY}\\n' FROM WORKSPACE w", [CANARY + "\n"]),
        (f"revoke federated consent for /* who */ subject U&'\\006B{CANARY[1:]}' from workspace w", [CANARY]),
    ],
)  # fmt: skip
def test_a_subject_is_sealed_and_all_else_stays(statement: str, subjects: list[str]) -> None:
    found, sealed = sealing(f"SELECT 1; {statement}; SELECT 2")
    assert sealed == subjects
    assert CANARY not in found.text
    assert found.tags[0] is None and found.tags[1] is not None
    (call,) = (one for one in found.text.split("$federated$") if "SEALED" in one)
    rest = parse(call)
    assert "SELECT 1; CALL federated.execute(" in found.text and found.text.endswith("; SELECT 2")
    for word in ("'/p' FORMAT 'csv'", "PURPOSE 'p'", "VERSION '2'", "'b'"):
        if word in statement and word != "'b'":
            assert word in call
    assert type(rest) is type(parse(statement))


@pytest.mark.parametrize(
    "statement",
    [
        f"DELETE FROM FEDERATED TRAINING m WHERE data_subject_id LIKE '{CANARY}'",
        f"DELETE FROM FEDERATED TRAINING m WHERE data_subject_id = '{CANARY}' AND true",
        f"DELETE FROM FEDERATED TRAINING m WHERE data_subject_id IN ('{CANARY}'",
        f"EXPORT FEDERATED DATA FOR SUBJECT '{CANARY}' FRM WORKSPACE w TO '/p'",
        f"GRANT FEDERATED CONSENT FOR SUBJECT '{CANARY}'",
    ],
)
def test_a_statement_that_is_wrong_elsewhere_does_not_show_its_subject(statement: str) -> None:
    found, sealed = sealing(statement)
    assert sealed == [CANARY]
    assert CANARY not in found.text


def test_literals_that_name_no_subject_stay() -> None:
    for statement in (
        "DELETE FROM FEDERATED TRAINING m WHERE data_subject_id = SEALED 'cw==' WITH (method = 'retrain')",
        "CREATE FEDERATED ALERT subject ON WORKSPACE w WHEN x < 1 NOTIFY 'pg:c'",
        "EXPORT FEDERATED DATA FOR SUBJECT SEALED 'cw==' FROM WORKSPACE w TO '/subject'",
        "GRANT FEDERATED CONSENT FOR SUBJECT '' IN WORKSPACE w",
        f"GRANT FEDERATED CONSENT FOR SUBJECT '{'s' * 1025}' IN WORKSPACE w",
    ):
        found, sealed = sealing(statement)
        assert not sealed
        assert statement in found.text


def test_without_a_key_nothing_is_sealed() -> None:
    statement = f"REVOKE FEDERATED CONSENT FOR SUBJECT '{CANARY}' FROM WORKSPACE w"
    found = rewrite(statement)
    assert found is not None and statement in found.text


def test_positions_point_into_what_was_typed() -> None:
    text = f"SELECT 1; DELETE FROM FEDERATED TRAINING m WHERE data_subject_id IN ('{CANARY}', 'b') now; STOP FEDERATED TRAINING m nor"
    found, _ = sealing(text)
    calls = [one for one in found.text.split("$federated$") if "FEDERATED" in one]
    for index, call, word in ((1, calls[0], "now"), (2, calls[1], "nor")):
        with pytest.raises(FederatedError) as caught:
            parse(call)
        assert caught.value.position is not None
        assert found.statement_position(index, caught.value.position) == text.index(word) + 1
    inside = calls[0].index("SEALED") + 3
    assert found.statement_position(1, inside) == text.index(f"'{CANARY}'") + 1
    second = calls[0].index("SEALED", inside)
    assert found.statement_position(1, second + 1) == text.index("'b'") + 1
    assert found.statement_position(1, 8) == text.index("DELETE") + 8

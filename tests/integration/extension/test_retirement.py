"""Versions that were retired, or are withheld for a while: they predict nothing, whichever way they are asked."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from tests.integration.extension.versions_support import execute, functions, value

CALLS = (
    "federated_predict('risk@{}', '{{\"age\": 10, \"smoker\": false}}'::jsonb)",
    "predict('risk@{}', ARRAY[10, 0])",
    'federated_model."risk@{}"(age => 10, smoker => false)',
)


def withdraw(catalog: psycopg.Connection, assignments: str, version: int) -> None:
    """Change a version's row, as an erasure does."""
    catalog.execute(
        f"UPDATE federated.version SET {assignments} WHERE version = %s",  # type: ignore[arg-type]
        [version],
    )


RETIRED = "retired_at = now(), retired_by = gen_random_uuid(), is_current = false, prediction = NULL"


def test_a_retired_version_predicts_nothing_and_names_its_successor(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    trained.execute('CREATE VIEW dependent AS SELECT federated_model."risk@1"(age => 10) AS p')
    execute(operator, "TAG FEDERATED MODEL risk VERSION 1 AS 'old'")

    withdraw(trained, RETIRED, 1)

    for call in CALLS:
        for label in ("1", "old"):
            with pytest.raises(
                errors.ObjectNotInPrerequisiteState, match=r"version 1 .* was retired"
            ) as caught:
                value(operator, call.format(label))
            assert (
                caught.value.diag.message_hint
                == "Version 2 is the current one: federated_predict('risk', ...)."
            )
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="was retired"):
        value(trained, "p FROM dependent")
    assert value(operator, "predict('risk', ARRAY[10, 0])") == 6.25
    for statement in (
        "PROMOTE FEDERATED MODEL risk VERSION 1",
        "ROLLBACK FEDERATED MODEL risk TO VERSION 'old'",
        "TAG FEDERATED MODEL risk VERSION 1 AS 'again'",
    ):
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match=r"version 1 .* was retired"):
            execute(operator, statement)
    for call in ("federated_evaluate('risk@1')", "federated_coefficients('risk@1')"):
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="was retired"):
            operator.execute(f"SELECT * FROM {call}")  # type: ignore[arg-type]
    listed = "SELECT version FROM federated_model_versions('risk') WHERE retired_at IS NOT NULL"
    assert operator.execute(listed).fetchall() == [(1,)]


def test_a_model_whose_current_version_was_retired_has_none(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    withdraw(trained, RETIRED, 2)

    with pytest.raises(errors.ObjectNotInPrerequisiteState, match=r"version 2 .* was retired") as caught:
        value(operator, "federated_model.risk(age => 10, smoker => false)")
    assert caught.value.diag.message_hint == "START FEDERATED TRAINING risk makes a version without them."
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="no current version"):
        operator.execute("SELECT * FROM federated_evaluate('risk')")
    execute(operator, "ALTER FEDERATED MODEL risk RENAME TO hazard")
    with pytest.raises(
        errors.ObjectNotInPrerequisiteState, match='version 2 of federated model "hazard" was retired'
    ):
        value(operator, "predict('hazard', ARRAY[10, 0])")
    execute(operator, "ALTER FEDERATED MODEL hazard RENAME TO risk")
    execute(operator, "PROMOTE FEDERATED MODEL risk VERSION 1")
    assert value(operator, "federated_model.risk(age => 10, smoker => false)") == 5.25


def test_a_version_that_was_withheld_predicts_again_what_it_did(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(operator, "TAG FEDERATED MODEL risk VERSION 2 AS 'now'")
    before = functions(trained)

    withdraw(trained, "withheld = true", 2)

    for label in ("2", "now"):
        for call in CALLS:
            with pytest.raises(errors.ObjectNotInPrerequisiteState, match="while an erasure is carried out"):
                value(operator, call.format(label))
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="while an erasure is carried out"):
        value(operator, "federated_model.risk(age => 10, smoker => false)")
    # A new name of it is no way around, and neither is another one of its model.
    execute(
        operator,
        "TAG FEDERATED MODEL risk VERSION 2 AS 'other'",
        "ALTER FEDERATED MODEL risk RENAME TO hazard",
    )
    for name in ("hazard", "hazard@2", "hazard@now", "hazard@other"):
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match='"hazard" does not predict while'):
            value(operator, f'federated_model."{name}"(age => 10, smoker => false)')
    execute(operator, "ALTER FEDERATED MODEL hazard RENAME TO risk", "DROP FEDERATED MODEL risk TAG 'other'")

    withdraw(trained, "withheld = false", 2)

    assert functions(trained) == before
    for label in ("2", "now"):
        assert [value(operator, call.format(label)) for call in CALLS] == [6.25] * 3
    assert value(operator, "federated_model.risk(age => 10, smoker => false)") == 6.25

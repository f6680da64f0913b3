"""Every right that a role has on every object is written down in privileges.golden; `make privileges` renews it."""

from __future__ import annotations

import difflib
from typing import Any

import psycopg

from tests.support.privilege_matrix import GOLDEN, render


def test_the_rights_are_those_written_down(catalog: psycopg.Connection[Any]) -> None:
    """Where this fails, read the difference; if it is meant, `make privileges` writes it down."""
    golden = GOLDEN.read_text().splitlines()
    found = "\n".join(
        difflib.unified_diff(golden, render(catalog).splitlines(), "golden", "found", lineterm="", n=0)
    )
    assert not found, f"\n{found}"


def test_the_matrix_sees_rights_on_columns_functions_schemas_and_memberships(
    catalog: psycopg.Connection[Any],
) -> None:
    before = render(catalog)
    for change, line in (
        ("GRANT SELECT (step) ON federated.release TO federated_reader", "    SELECT(step) reader"),
        ("GRANT SELECT ON federated.lease TO PUBLIC", "    SELECT admin operator analyst auditor daemon reader owner api PUBLIC"),
        ("GRANT EXECUTE ON FUNCTION federated._raise(jsonb) TO federated_reader",
         "function federated._raise(jsonb): EXECUTE admin operator analyst auditor reader"),
        ("GRANT USAGE ON SCHEMA federated_model TO PUBLIC", None),
        ("GRANT USAGE ON SEQUENCE federated.node_node_id_seq TO federated_daemon", None),
        ("GRANT federated_admin TO federated_reader", "role reader: is a member of admin"),
        ("ALTER ROLE federated_reader LOGIN", "role reader: can log in"),
        ("ALTER FUNCTION federated._raise(jsonb) SECURITY DEFINER", None),
    ):  # fmt: skip
        catalog.execute("BEGIN")
        try:
            catalog.execute(change)  # type: ignore[arg-type]
            after = render(catalog)
            assert after != before, change
            assert line is None or line in after.splitlines(), change
        finally:
            catalog.execute("ROLLBACK")
    assert render(catalog) == before


def test_nobody_who_may_log_in_owns_rights_to_write_what_the_coordinator_alone_writes(
    catalog: psycopg.Connection[Any],
) -> None:
    """Read off the golden file: the history, the ledgers and the audit log are appended to by those meant to."""
    text = GOLDEN.read_text()
    audit = text.partition("table federated.audit:")[2].partition("\ntable ")[0]
    assert "INSERT" not in audit
    assert "UPDATE" not in audit
    assert "DELETE" not in audit
    assert "PUBLIC" not in text.partition("\n\n")[2]

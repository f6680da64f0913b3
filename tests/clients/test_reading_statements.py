"""EXPLAIN START FEDERATED TRAINING and SHOW FEDERATED through a proxy: rows, their description and the tag."""

from __future__ import annotations

import subprocess

import psycopg
import pytest
from psycopg import errors

from tests.clients.conftest import Site

EXPLAIN = "EXPLAIN START FEDERATED TRAINING risk"
EXPLAIN_JSON = "EXPLAIN (FORMAT JSON) START FEDERATED TRAINING risk WITH (rounds = 3)"


def psql(site: Site, *commands: str) -> str:
    typed = [argument for command in commands for argument in ("-c", command)]
    made = subprocess.run(
        ["psql", f"postgresql:{site.url}", "-XAq", "-v", "ON_ERROR_STOP=1", *typed],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return made.stdout + made.stderr


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_a_driver_gets_rows_under_the_statements_own_tag(site: Site, mode: str) -> None:
    with psycopg.connect(f"postgresql:{site.url}", autocommit=True) as connection:
        cursor: psycopg.Cursor = psycopg.ClientCursor(connection) if mode == "simple" else connection.cursor()
        times = 2 if mode == "prepared" else 1
        for statement, columns, tag in (
            (EXPLAIN, ["QUERY PLAN"], "EXPLAIN"),
            (EXPLAIN_JSON, ["QUERY PLAN"], "EXPLAIN"),
            ("SHOW FEDERATED MODELS IN WORKSPACE clinics", None, "SHOW"),
        ):
            for _ in range(times):
                cursor.execute(statement.encode(), prepare=mode == "prepared")
                assert cursor.statusmessage == tag
                assert cursor.description is not None
                names = [column.name for column in cursor.description]
                assert names == (columns or names)
                rows = cursor.fetchall()
            if statement == EXPLAIN:
                assert rows[0] == ("Federated Training: risk",)
                assert len(rows) > 20
            elif statement == EXPLAIN_JSON:
                # The column is of type json, which the driver reads.
                assert rows[0][0][0]["Federated Training"]["Rounds"]["Training Rounds"] == 3
            else:
                assert names[:2] == ["workspace_name", "model_name"]
                assert [row[:2] for row in rows] == [("clinics", "risk")]


def test_several_statements_in_one_message_keep_their_tags_and_places(site: Site) -> None:
    with psycopg.connect(f"postgresql:{site.url}", autocommit=True) as connection:
        cursor = psycopg.ClientCursor(connection)
        cursor.execute(b"SELECT 1; SHOW FEDERATED RUNS; EXPLAIN START FEDERATED TRAINING risk; SELECT 2")
        tags = [cursor.statusmessage]
        while cursor.nextset():
            tags.append(cursor.statusmessage)
        assert tags == ["SELECT 1", "SHOW", "EXPLAIN", "SELECT 1"]
        wrong = "SELECT 1; EXPLAIN START FEDERATED TRAINING risk WITH (round = 3)"
        with pytest.raises(errors.InvalidParameterValue) as refused:
            cursor.execute(wrong.encode())
        assert refused.value.diag.statement_position == str(wrong.index("round") + 1)


def test_psql_shows_a_plan_and_what_there_is(site: Site) -> None:
    shown = psql(site, EXPLAIN, "SHOW FEDERATED WORKSPACES")
    assert shown.startswith("QUERY PLAN\nFederated Training: risk\n  Workspace: clinics\n")
    assert "\nworkspace_name|owner|" in shown
    wrong = psql(site, "SHOW FEDERATED NODE")
    assert 'ERROR:  syntax error at or near "NODE"' in wrong
    assert "HINT:  Did you mean NODES?" in wrong


def test_a_role_without_the_right_is_told_which_role_it_takes(site: Site) -> None:
    with psycopg.connect(f"postgresql:{site.url}", autocommit=True) as connection:
        connection.execute("CREATE ROLE a_stranger")
        connection.execute("SET ROLE a_stranger")
        for statement in (EXPLAIN, "SHOW FEDERATED MODELS"):
            with pytest.raises(errors.InsufficientPrivilege) as refused:
                connection.execute(statement.encode())
            assert "federated_analyst or federated_auditor" in (refused.value.diag.message_hint or "")
        connection.execute("RESET ROLE")
        connection.execute("DROP ROLE a_stranger")

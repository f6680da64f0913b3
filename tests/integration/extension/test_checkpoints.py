"""CHECKPOINT and RESUME as the database carries them out: files, refusals, rights, and what is queued."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from heliosdb.catalog.checkpoints import list_parts, read_part
from heliosdb.catalog.lease import become_daemon
from heliosdb.catalog.psycopg_connection import connected
from heliosdb.catalog.runs import list_ended_runs
from heliosdb.domain.checkpoint import read_header
from heliosdb.domain.ids import RunId, WorkspaceName
from tests.integration.extension.versions_support import execute, notices_of, value
from tests.support.cluster import Cluster

CHECKPOINT = "CHECKPOINT FEDERATED TRAINING risk TO '{}'"
RESUME = "RESUME FEDERATED TRAINING risk FROM '{}'"
PARTS = {
    "manifest": b"sealed manifest",
    "memory/1": b"memory",
    "state/1": b"best",
    "state/2": b"s" * 5_000_000,
}
LISTED = "SELECT path, round_number, size_bytes, sha256 FROM federated_checkpoints('risk')"


def close_rounds(catalog: psycopg.Connection, *, status: str = "running", manifest: bool = True) -> UUID:
    """Queue a run, and let rounds 0 to 2 of it be closed as by a coordinator; round 1 is the best."""
    execute(catalog, "START FEDERATED TRAINING risk")
    run: UUID = value(catalog, "run_id FROM federated.run WHERE status = 'queued'")
    catalog.execute(
        "INSERT INTO federated.round (run_id, round_number, status, finished_at)"
        " SELECT %s, n, 'closed', now() FROM generate_series(0, 2) AS n",
        [run],
    )
    for number, memory in ((1, PARTS["memory/1"]), (2, None)):
        catalog.execute(
            "INSERT INTO federated.run_parameters (run_id, round_number, sealed, sha256, memory, manifest, kept_round)"
            " VALUES (%s, %s, %s, '', %s, %s, 1)",
            [run, number, PARTS[f"state/{number}"], memory, PARTS["manifest"] if manifest and number == 2 else None],
        )  # fmt: skip
    catalog.execute("UPDATE federated.run SET status = 'running' WHERE run_id = %s", [run])
    if status != "running":
        catalog.execute(
            "UPDATE federated.run SET status = %s, finished_at = now() WHERE run_id = %s", [status, run]
        )
    return run


def refusal(session: psycopg.Connection, statement: str) -> psycopg.Error:
    """Return the error that a statement gets."""
    with pytest.raises(psycopg.Error) as caught:
        execute(session, statement)
    assert "Traceback" not in str(caught.value), statement
    return caught.value


@pytest.fixture
def writer(cluster: Cluster, operator: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """The model's operator, who may name files on the server."""
    with cluster.connect() as connection:
        connection.execute("GRANT pg_read_server_files, pg_write_server_files TO an_operator")
        yield operator
        connection.execute("REVOKE pg_read_server_files, pg_write_server_files FROM an_operator")


@pytest.fixture
def file(catalog: psycopg.Connection, writer: psycopg.Connection, place: Path) -> Path:
    """A checkpoint of round 2 of a run that is going on."""
    close_rounds(catalog)
    path = place / "round_2.bin"
    execute(writer, CHECKPOINT.format(path))
    return path


def test_a_file_holds_what_the_coordinator_sealed_and_is_the_server_users_alone(
    catalog: psycopg.Connection, writer: psycopg.Connection, file: Path
) -> None:
    raw = file.read_bytes()

    with file.open("rb") as opened:
        header = read_header(opened.read, len(raw))
    run = value(catalog, "run_id FROM federated.run")
    assert (header.workspace, header.model, header.run, header.round) == ("clinics", "risk", run, 2)
    assert [part.name for part in header.parts] == sorted(PARTS)
    assert raw[len(header.to_bytes()) : -32] == b"".join(PARTS[name] for name in sorted(PARTS))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in file.parent.iterdir()] == [file.name]
    digest = hashlib.sha256(raw).hexdigest()
    assert writer.execute(LISTED).fetchall() == [(str(file), 2, len(raw), digest)]  # type: ignore[arg-type]
    [(who, details)] = catalog.execute(
        "SELECT session_role, details FROM federated.audit WHERE object_kind = 'checkpoint'"
    ).fetchall()
    assert (who, details["after"]["path"]) == ("an_operator", str(file))
    assert details["after"]["sha256"] == "\\x" + digest


def test_a_path_that_is_taken_or_refused_leaves_everything_as_it_was(
    cluster: Cluster, writer: psycopg.Connection, file: Path
) -> None:
    (file.parent / "dangling").symlink_to(file.parent / "nothing")
    (file.parent / "elsewhere").symlink_to(cluster.directory)
    before = file.read_bytes()

    for path, sqlstate in {
        str(file): "42710",
        f"{file.parent}/dangling": "42710",
        f"{file.parent}/elsewhere/x": "22023",
        f"{file.parent}/missing/x": "42704",
        f"{file.parent}/../x": "22023",
        "relative": "22023",
        "/proc/self/x": "22023",
        f"{cluster.directory}/data/x": "22023",
        "/root_only_directory_of_nobody": "42501",
    }.items():
        error = refusal(writer, CHECKPOINT.format(path))
        assert error.sqlstate == sqlstate, (path, error)
        assert path.removesuffix("/x") in str(error)
    assert file.read_bytes() == before
    assert sorted(one.name for one in file.parent.iterdir()) == ["dangling", "elsewhere", file.name]
    assert len(writer.execute(LISTED).fetchall()) == 1  # type: ignore[arg-type]


def test_what_fails_before_the_end_leaves_no_file(
    catalog: psycopg.Connection, writer: psycopg.Connection, place: Path
) -> None:
    close_rounds(catalog)
    catalog.execute("ALTER TABLE federated.checkpoint ADD CHECK (path NOT LIKE '%refused%')")

    assert refusal(writer, CHECKPOINT.format(place / "refused")).sqlstate == "23514"

    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("made", "sqlstate", "message"),
    [
        (None, "55000", 'federated model "risk" has nothing to checkpoint'),
        ({"manifest": False}, "55000", 'round 2 of federated model "risk" cannot be checkpointed'),
        ("series", "0A000", "checkpoints of folds and searches are not supported yet"),
    ],
)
def test_what_cannot_be_checkpointed_is_refused_with_the_reason(
    catalog: psycopg.Connection, writer: psycopg.Connection, place: Path, made: Any, sqlstate: str, message: str
) -> None:  # fmt: skip
    if made is not None:
        close_rounds(catalog, **({} if made == "series" else made))
    if made == "series":
        catalog.execute("UPDATE federated.run SET series_id = gen_random_uuid(), trial = 1")

    error = refusal(writer, CHECKPOINT.format(place / "x"))

    assert (error.sqlstate, error.diag.message_primary) == (sqlstate, message)
    assert list(place.iterdir()) == []


def test_sealed_parts_are_read_by_the_owner_alone_who_may_write_files(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, file: Path
) -> None:
    model, run = value(catalog, "model_id FROM federated.model"), value(catalog, "run_id FROM federated.run")
    calls = (
        f"SELECT * FROM federated._hold_checkpoint({model})",
        f"SELECT federated._read_checkpoint({model}, '{run}', 2, 'state/2', 0, 10)",
        "SELECT sealed FROM federated.run_parameters",
        f"INSERT INTO federated.resumption VALUES ('{run}', 'manifest', 0, '')",
    )
    with cluster.connect() as connection:
        connection.execute("REVOKE pg_write_server_files FROM an_operator")
    with cluster.connect(federated_database, user="an_operator") as session:
        for call in calls[:3]:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(call)  # type: ignore[arg-type]
    catalog.execute("CREATE ROLE other_operator LOGIN IN ROLE federated_operator, pg_write_server_files")
    try:
        with cluster.connect(federated_database, user="other_operator") as session:
            for call in calls:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute(call)  # type: ignore[arg-type]
            for statement in (CHECKPOINT.format(file.parent / "x"), "RESUME FEDERATED TRAINING risk"):
                assert refusal(session, statement).sqlstate == "42501"
    finally:
        catalog.execute("DROP ROLE other_operator")


def test_a_stopped_run_is_queued_again_as_it_is_and_its_nodes_are_not_told_to_forget_it(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, operator: psycopg.Connection
) -> None:
    run = close_rounds(catalog, status="stopped")
    catalog.execute("UPDATE federated.run SET stop_requested = true, message = 'stopped on request'")
    with connected(cluster.dsn(federated_database, user="heliosdb_daemon"), application_name="t") as daemon:
        become_daemon(daemon)
        assert list_ended_runs(daemon, WorkspaceName("clinics")) == []
        catalog.execute("UPDATE federated.round SET finished_at = now() - interval '29 days'")
        assert list_ended_runs(daemon, WorkspaceName("clinics")) == [RunId(run)]
        error = refusal(operator, "RESUME FEDERATED TRAINING risk")
        assert error.diag.message_detail is not None
        assert "more than four weeks ago" in error.diag.message_detail
        catalog.execute("UPDATE federated.round SET finished_at = now()")

    execute(operator, "RESUME FEDERATED TRAINING risk")

    assert catalog.execute(
        "SELECT run_id, status::text, stop_requested, message, finished_at FROM federated.run"
    ).fetchall() == [(run, "queued", False, None, None)]
    [(details,)] = catalog.execute(
        "SELECT details FROM federated.audit WHERE object_kind = 'run' AND session_role = 'an_operator'"
    ).fetchall()
    assert (details["before"]["status"], details["after"]["status"]) == ("stopped", "queued")


@pytest.mark.parametrize(
    ("status", "detail"),
    [
        ("completed", "It has ended: completed."),
        ("converged", "It has ended: converged."),
        ("diverged", "It has ended: diverged."),
        ("budget_exhausted", "It has ended: budget exhausted."),
    ],
)
def test_a_run_that_came_to_its_end_does_not_go_on(
    catalog: psycopg.Connection, operator: psycopg.Connection, status: str, detail: str
) -> None:
    run = close_rounds(catalog, status=status)

    error = refusal(operator, "RESUME FEDERATED TRAINING risk")

    assert (error.sqlstate, error.diag.message_primary) == ("55000", f"run {run} cannot be resumed")
    assert error.diag.message_detail == detail
    assert error.diag.message_hint


def test_only_what_there_is_to_go_on_with_is_resumed(
    catalog: psycopg.Connection, operator: psycopg.Connection
) -> None:
    error = refusal(operator, "RESUME FEDERATED TRAINING risk")
    assert (error.sqlstate, error.diag.message_detail) == ("55000", "None of its runs has closed a round.")
    close_rounds(catalog)
    assert refusal(operator, "RESUME FEDERATED TRAINING risk").sqlstate == "55006"
    catalog.execute("UPDATE federated.run SET status = 'stopped', finished_at = now()")
    former = value(catalog, "run_id FROM federated.run")
    # A run that failed before it closed a round takes nothing away from the one before it.
    execute(operator, "START FEDERATED TRAINING risk")
    catalog.execute("UPDATE federated.run SET status = 'failed' WHERE status = 'queued'")
    execute(operator, "RESUME FEDERATED TRAINING risk")
    assert value(catalog, "run_id FROM federated.run WHERE status = 'queued'") == former
    catalog.execute("UPDATE federated.run SET status = 'stopped' WHERE status = 'queued'")
    close_rounds(catalog, status="completed")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="cannot be resumed"):
        operator.execute("UPDATE federated.run SET stop_requested = false WHERE run_id = %s", [former])


def test_a_file_of_the_last_run_as_it_stands_goes_on_with_that_run(
    catalog: psycopg.Connection, writer: psycopg.Connection, file: Path
) -> None:
    assert refusal(writer, RESUME.format(file)).sqlstate == "55006"
    catalog.execute("UPDATE federated.run SET status = 'failed', finished_at = now()")

    execute(writer, RESUME.format(file))

    assert value(catalog, "array_agg(status::text) FROM federated.run") == ["queued"]
    assert value(catalog, "count(*) FROM federated.resumption") == 0


def test_a_file_of_another_state_is_handed_to_the_coordinator_with_another_run(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, writer: psycopg.Connection, file: Path
) -> None:  # fmt: skip
    catalog.execute("UPDATE federated.run SET status = 'completed', finished_at = now()")
    former, heard = value(catalog, "run_id FROM federated.run"), notices_of(writer)

    execute(writer, RESUME.format(file))

    [(run, origin, number, options, policy)] = catalog.execute(
        "SELECT run_id, resumed_from, resumed_round, options, policy FROM federated.run WHERE status = 'queued'"
    ).fetchall()
    assert (origin, number, options) == (former, 2, {})
    assert policy["privacy_budget"] == 0.5
    assert "another run goes on from its round 2" in heard[0]
    with connected(cluster.dsn(federated_database, user="heliosdb_daemon"), application_name="t") as daemon:
        become_daemon(daemon)
        assert {name: read_part(daemon, run, name) for name in list_parts(daemon, run)} == PARTS


def test_what_is_no_whole_checkpoint_of_the_model_is_refused_and_nothing_is_queued(
    catalog: psycopg.Connection, writer: psycopg.Connection, file: Path
) -> None:
    catalog.execute("UPDATE federated.run SET status = 'stopped', finished_at = now()")
    execute(catalog, "CREATE FEDERATED WORKSPACE other", "CREATE FEDERATED MODEL other IN WORKSPACE clinics")
    raw, hostile = file.read_bytes(), file.parent / "hostile.bin"
    length = struct.unpack_from("<I", raw, 12)[0]

    def renamed(**said: object) -> bytes:
        header = json.loads(raw[16 : 16 + length]) | said
        text = json.dumps(header, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
        whole = raw[:12] + struct.pack("<I", len(text)) + text + raw[16 + length : -32]
        return whole + hashlib.sha256(whole).digest()

    changed = bytearray(raw)
    changed[-40] ^= 1
    resealed = bytes(changed[:-32]) + hashlib.sha256(changed[:-32]).digest()
    manifest = resealed.replace(PARTS["manifest"], b"hostile manifes")[:-32]
    for content, sqlstate, message in (
        (raw[:-1], "22023", "the checkpoint is truncated"),
        (b"", "22023", "the file is no checkpoint of a federated training"),
        (bytes(changed), "22023", "the checkpoint is damaged or was changed"),
        (manifest + hashlib.sha256(manifest).digest(), "22023", "the checkpoint is damaged or was changed"),
        (raw[:8] + b"\2\0\0\0" + raw[12:], "0A000", "the checkpoint is of format 2, which a later release writes"),
        (renamed(model="x", run=str(uuid4())), "22023", 'the checkpoint is of federated model "x", not "risk"'),
        (renamed(workspace="other"), "22023", 'the checkpoint is of federated workspace "other", not "clinics"'),
    ):  # fmt: skip
        hostile.write_bytes(content)
        hostile.chmod(0o644)
        error = refusal(writer, RESUME.format(hostile))
        assert (error.sqlstate, error.diag.message_primary) == (sqlstate, message)
    (file.parent / "link").symlink_to(file)
    os.mkfifo(file.parent / "pipe", 0o666)
    for name, sqlstate in (("link", "22023"), ("pipe", "22023"), ("missing", "42704")):
        assert refusal(writer, RESUME.format(file.parent / name)).sqlstate == sqlstate
    assert value(catalog, "array_agg(status::text) FROM federated.run") == ["stopped"]
    assert value(catalog, "count(*) FROM federated.resumption") == 0


def test_what_a_run_was_started_with_is_nobodys_to_change(
    catalog: psycopg.Connection, daemon: psycopg.Connection, operator: psycopg.Connection
) -> None:
    run = close_rounds(catalog)
    for change in ("options = '{}'", "policy = '{}'", "overrides = '{}'", "seed_run = gen_random_uuid()"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            daemon.execute(f"UPDATE federated.run SET {change}")  # type: ignore[arg-type]
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="was started with stays"):
        daemon.execute(
            'SELECT federated._adopt_run(%s, \'{"options": {}, "overrides": {}, "policy": {}}\')', [run]
        )
    catalog.execute("UPDATE federated.run SET status = 'stopped', finished_at = now()")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="the options that it was started with"):
        operator.execute(
            "INSERT INTO federated.run (model_id, overrides, resumed_from, resumed_round)"
            " SELECT model_id, '{\"rounds\": 1}', run_id, 2 FROM federated.run WHERE run_id = %s",
            [run],
        )


def test_a_file_of_a_run_that_is_gone_does_not_bring_back_who_was_erased_since(
    catalog: psycopg.Connection, writer: psycopg.Connection, file: Path
) -> None:
    catalog.execute("UPDATE federated.run SET status = 'stopped', finished_at = now()")
    catalog.execute("INSERT INTO federated.coordinator_key (sealing_key) VALUES (%s)", [bytes(range(32))])
    execute(
        catalog,
        "DELETE FROM FEDERATED TRAINING risk WHERE data_subject_id = 's-1'",
        "DROP FEDERATED MODEL risk",
    )
    execute(
        writer,
        "CREATE FEDERATED MODEL risk IN WORKSPACE clinics WITH (algorithm = 'logistic_regression',"
        " features = ['age', 'bmi'], target = 'outcome', rounds = 5)",
    )

    error = refusal(writer, RESUME.format(file))
    assert error.sqlstate == "55000"
    assert "not known here any more" in str(error)
    # What was written after a request was carried out is without the subject.
    catalog.execute("INSERT INTO federated.erasure (order_id, workspace, planned_at) SELECT order_id, workspace, now()"
                    " - interval '1 day' FROM federated.subject_order")  # fmt: skip
    execute(writer, RESUME.format(file))

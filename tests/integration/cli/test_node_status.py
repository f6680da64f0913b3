"""`heliosdb node status` on a real node: what it shows while it runs, once it has ended, and what it cannot read."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from heliosdb.domain.errors import ErrorCode, edge
from heliosdb.domain.ids import ModelName
from heliosdb.domain.privacy import Budget
from heliosdb.transport.messages import NodeRefusedError
from tests.support.cluster import Cluster
from tests.support.federation import Federation, NodeProcess, create_patients, statistics_task

TIMEOUT = 180.0


def status(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "heliosdb.cli.main",
            "node",
            "status",
            "--config",
            str(config),
            "--timeout",
            "120",
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env={**os.environ, "TZ": "Asia/Kolkata"},
    )


async def test_the_page_shows_the_daemon_what_was_trained_left_spent_and_refused(
    cluster: Cluster, federated_database: str, tmp_path: Path
) -> None:
    federation = Federation(tmp_path)
    create_patients(cluster, federated_database, options="WITH (max_epsilon = 2)")
    config = federation.node_config(cluster, federated_database, health_socket=tmp_path / "health")
    node = NodeProcess(config, tmp_path)
    file = node.settings
    task = replace(statistics_task(noise_multiplier=20.0, budget=Budget(1.0, 1e-5)), model=ModelName("risk"))
    try:
        client = federation.client(await node.port())
        update = await client.perform(task, federation.sealing, TIMEOUT)
        with cluster.connect(federated_database) as dba:
            dba.execute("CALL federated.execute('ALTER FEDERATED DATASET patients SET (paused = true)')")
            dba.execute(
                "CALL federated.execute('CREATE FEDERATED SUBSCRIPTION s TO MODEL other IN WORKSPACE consortium')"
            )
        with pytest.raises(NodeRefusedError):
            await client.perform(statistics_task(), federation.sealing, TIMEOUT)
        await client.close()
        alive = status(file)
    finally:
        node.kill()
    assert (alive.returncode, alive.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in alive.stdout.splitlines()]
    assert lines[0] == "Daemon: ready"
    assert lines[2] == "Secure sums: none: the setting peers is missing"
    assert lines[3].startswith("The training process is left: files of its own alone (Landlock ")
    assert "patients paused consortium public.patient age, pressure, smoker, city, outcome" in lines
    assert update.spending is not None
    spent = f"{update.spending.epsilon_tight:.6g}"
    assert f"patients (paused) consortium {spent} {spent} 2 (max_epsilon)" in lines
    [run] = [line for line in lines if "logistic_regression" in line]
    assert run.endswith("consortium risk patients logistic_regression age, pressure → outcome 1 1")
    assert any(
        line.endswith('1 consortium statistics patients dataset "patients" is paused by its DBA')
        for line in lines
    )
    assert any(line.startswith("s consortium other") for line in lines)
    dead = status(file)
    assert dead.returncode == 0
    assert dead.stdout.splitlines()[0].startswith("Daemon: does not answer")
    assert dead.stdout.splitlines()[1:] == alive.stdout.splitlines()[1:]


@pytest.mark.parametrize(
    ("user", "database", "code", "said"),
    [
        ("a_nobody", None, ErrorCode.PRIVILEGE, "cannot be read"),
        ("heliosdb_daemon", "postgres", ErrorCode.WRONG_STATE, "is not in the node's database"),
        ("heliosdb_daemon", "absent", ErrorCode.UNREACHABLE, "cannot be reached"),
    ],
)
def test_what_stands_in_the_way_is_an_error_with_what_to_do(
    user: str, database: str | None, code: ErrorCode, said: str,
    cluster: Cluster, federated_database: str, tmp_path: Path,
) -> None:  # fmt: skip
    config = Federation(tmp_path).node_config(cluster, federated_database)
    file = tmp_path / "node.toml"
    settings = {name: str(getattr(config, name)) for name in
                ("certificate", "private_key", "coordinator_certificate", "state_directory")}  # fmt: skip
    settings |= {
        "database": cluster.dsn(database or federated_database, user=user),
        "reader": cluster.dsn(federated_database, user="heliosdb_reader"),
    }
    file.write_text("".join(f"{name} = '{value}'\n" for name, value in settings.items()))
    ended = status(file)
    assert ended.returncode == edge(code).exit_code
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr

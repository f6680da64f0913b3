"""A node with engine = 'dask': its answers, its ledger, and what it says when workers or a scheduler are gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from heliosdb.algorithms.curvature import curvature_size
from heliosdb.algorithms.newton import NEWTON
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.privacy import Budget
from heliosdb.domain.task import Task, Work
from heliosdb.node.service import serve_many
from heliosdb.transport.authority import Authority
from tests.integration.node.test_limits import create_wide, node, tasks
from tests.support.cluster import Cluster
from tests.support.federation import (
    Federation,
    create_patients,
    statistics_task,
    train_task,
    until,
)
from tests.support.ports import free_port

TIMEOUT = 180.0
ROWS = 30_000
LOCAL = {"engine": "dask", "dask": {"workers": 2}}


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


def newton_task(after: Task) -> Task:
    """Loss, gradient and Hessian of the same run."""
    size = after.state["parameters"].size
    work = Work("logistic_regression", curvature_size(size), settings={"classes": 2})
    return replace(after, key=replace(after.key, step=NEWTON, round=RoundNumber(3)), work=work)


async def test_a_node_answers_as_one_process_does_though_a_worker_dies_in_the_run(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_wide(cluster, federated_database, ROWS)
    found = []
    for settings in ({}, LOCAL):
        first, train, _, evaluate = tasks()
        asked = [first, train, evaluate, newton_task(train)]
        config = federation.node_config(cluster, federated_database, **settings)
        async with node(federation, config) as client:
            answers = [await client.perform(task, federation.sealing, TIMEOUT) for task in asked[:2]]
            if settings:
                (worker, *_) = dask_workers(2)
                os.kill(worker, signal.SIGKILL)
            answers += [await client.perform(task, federation.sealing, TIMEOUT) for task in asked[2:]]
            started = set(dask_processes())
        found.append([(answer.vector.tobytes(), answer.weight) for answer in answers])
    assert found[0] == found[1]
    assert len(started) == 2
    # The node's end is theirs.
    await until(lambda: not any(b"spawn_main" in command_of(pid) for pid in started))


async def test_under_a_budget_each_answer_is_charged_once_though_all_workers_die(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database, options="WITH (subject = 'patient_id')")
    config = federation.node_config(cluster, federated_database, **LOCAL)
    budget = Budget(10.0, 1e-5)
    asked = [statistics_task(noise_multiplier=5.0, budget=budget)]
    asked.append(train_task(run=asked[0].key.run, noise_multiplier=20.0, budget=budget))
    async with node(federation, config) as client:
        first = await client.perform(asked[0], federation.sealing, TIMEOUT)
        for worker in dask_workers(2):
            os.kill(worker, signal.SIGKILL)
        second = await client.perform(asked[1], federation.sealing, TIMEOUT)
        again = await client.perform(asked[1], federation.sealing, TIMEOUT)
    assert first.spending is not None
    assert second.vector.tobytes() == again.vector.tobytes()
    with cluster.connect(federated_database) as connection:
        rows = connection.execute(
            "SELECT r.round_number FROM federated.spending AS s JOIN federated.release AS r USING (release_id)"
            " ORDER BY spending_id"
        ).fetchall()
    assert rows == [(0,), (1,)]


async def test_workers_of_a_scheduler_are_reached_by_tls_alone_and_waited_for(
    cluster: Cluster, federated_database: str, federation: Federation, tmp_path: Path
) -> None:
    create_patients(cluster, federated_database)
    files = tls_files(tmp_path, federation.authority, "dask")
    foreign = tls_files(tmp_path, Authority.create("somebody else"), "foreign")
    port = free_port()
    place = {
        "scheduler": f"tls://127.0.0.1:{port}",
        "reader": psycopg.conninfo.make_conninfo(
            cluster.dsn(federated_database, user="heliosdb_reader"), password=None
        ),
    }
    config = federation.node_config(
        cluster, federated_database, engine="dask", dask={**place, **names(files)}
    )
    stranger = federation.node_config(
        cluster, federated_database, engine="dask", dask={**place, **names(foreign)}
    )
    task = statistics_task()
    with running_dask(port, files, cluster, tmp_path):
        async with node(federation, config) as client:
            update = await client.perform(task, federation.sealing, TIMEOUT)
        async with node(federation, stranger) as client:
            with pytest.raises(FederatedError) as refused:
                await client.perform(statistics_task(), federation.sealing, TIMEOUT)
    async with node(federation, config) as client:
        with pytest.raises(FederatedError) as gone:
            await client.perform(statistics_task(), federation.sealing, TIMEOUT)
        with running_dask(port, files, cluster, tmp_path):
            later = await client.perform(statistics_task(), federation.sealing, TIMEOUT)
    assert update.vector.tobytes() == later.vector.tobytes()
    assert update.weight == 200.0
    for raised in (refused.value, gone.value):
        assert "dask scheduler cannot be reached, or has no worker" in str(raised)


async def test_without_dask_a_node_says_what_to_install(
    cluster: Cluster, federated_database: str, federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    config = federation.node_config(cluster, federated_database, **LOCAL)
    with pytest.raises(FederatedError, match="needs the packages dask and distributed") as raised:
        await serve_many([config])
    assert raised.value.code is ErrorCode.WRONG_STATE
    assert raised.value.hint == (
        "Install it beside the node: pip install 'heliosdb-federated-learning[dask]'."
    )


def tls_files(directory: Path, authority: Authority, name: str) -> tuple[Path, Path, Path]:
    """A certificate, its key, and the authority's certificate."""
    identity = authority.issue(name, ["localhost", "127.0.0.1"])
    made = tuple(directory / f"{name}.{kind}" for kind in ("pem", "key", "ca"))
    contents = (identity.certificate_pem, identity.private_key_pem, authority.certificate_pem)
    for path, content in zip(made, contents, strict=True):
        path.write_bytes(content)
    return made[0], made[1], made[2]


def names(files: tuple[Path, Path, Path]) -> dict[str, Path]:
    """The same as settings."""
    return dict(zip(("certificate", "private_key", "ca"), files, strict=True))


@contextmanager
def running_dask(
    port: int, files: tuple[Path, Path, Path], cluster: Cluster, directory: Path
) -> Iterator[None]:
    """A scheduler and two workers, as a site starts them."""
    certificate, key, ca = map(str, files)
    shown = ["--tls-cert", certificate, "--tls-key", key, "--tls-ca-file", ca]
    place = f"tls://127.0.0.1:{port}"
    settings = {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PGPASSWORD": password_of(cluster),
        "DASK_TEMPORARY_DIRECTORY": str(directory),
    }
    environment = {**os.environ, **settings}
    scheduler = ["scheduler", "--host", "127.0.0.1", "--protocol", "tls", "--port", str(port), *shown]
    worker = ["worker", place, "--nthreads", "1", "--no-nanny", "--no-dashboard", *shown]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in ([*scheduler, "--no-dashboard"], worker, worker):
            started.append(start(command, environment, directory / "dask.log"))
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def start(command: Sequence[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program of dask's."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *command], env=environment, stdout=output, stderr=output
        )


def password_of(cluster: Cluster) -> str:
    """The reader's, which the node does not tell to workers."""
    given = psycopg.conninfo.conninfo_to_dict(cluster.dsn("postgres", user="heliosdb_reader"))
    return str(given.get("password") or "")


def dask_workers(count: int) -> list[int]:
    """The worker processes of this test's node."""
    found = dask_processes()
    assert len(found) == count
    return found


def dask_processes() -> list[int]:
    found = []
    for trainer in descendants(os.getpid()):
        if b"heliosdb.node.training_process" in command_of(trainer):
            found += [pid for pid in descendants(trainer) if b"spawn_main" in command_of(pid)]
    return found


def descendants(pid: int) -> list[int]:
    children = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        children += [int(child) for child in task.read_text().split()]
    return children


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""

"""A node that is killed, stopped or loses its database: nothing is charged twice, nothing leaves uncharged."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.privacy import Budget
from heliosdb.node.config import load_config
from heliosdb.node.service import serve_many
from heliosdb.node.trainer import Trainer
from heliosdb.transport.messages import NodeRefusedError
from tests.support.cluster import Cluster
from tests.support.federation import (
    Federation,
    NodeProcess,
    create_patients,
    measured,
    new_run,
    running_node,
    statistics_task,
    train_task,
    until,
)
from tests.support.ports import free_port
from tests.support.training import STARTED_WORKERS

TIMEOUT = 180.0
BUDGET = Budget(1.0, 1e-5)


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


def _ledger(cluster: Cluster, database: str) -> list[tuple[object, ...]]:
    with cluster.connect(database) as connection:
        return connection.execute(
            "SELECT r.round_number, s.epsilon_tight, sha256(r.payload) FROM federated.spending AS s "
            "JOIN federated.release AS r USING (release_id) ORDER BY spending_id"
        ).fetchall()


@pytest.mark.parametrize("point", ["node.release.committed", "node.update.sent"])
async def test_killed_after_the_commit_it_sends_the_same_bytes_and_charges_once(
    point: str, cluster: Cluster, federated_database: str, federation: Federation, tmp_path: Path
) -> None:
    create_patients(cluster, federated_database)
    config = federation.node_config(cluster, federated_database, listen_port=free_port())
    task = train_task(noise_multiplier=10.0, budget=BUDGET)
    first = NodeProcess(config, tmp_path, faults=f"{point}=kill")
    client = federation.client(await first.port())
    if point == "node.release.committed":
        with pytest.raises(FederatedError) as raised:
            await client.perform(task, federation.sealing, TIMEOUT)
        assert raised.value.code is ErrorCode.UNREACHABLE
    else:
        # The bytes may or may not have got out before the end.
        await asyncio.gather(client.perform(task, federation.sealing, TIMEOUT), return_exceptions=True)
    assert await first.ended() == -signal.SIGKILL
    (committed,) = _ledger(cluster, federated_database)
    await client.close()
    second = NodeProcess(config, tmp_path)
    try:
        client = federation.client(await second.port())
        update = await client.perform(task, federation.sealing, TIMEOUT)
        again = await client.perform(task, federation.sealing, TIMEOUT)
        await client.close()
    finally:
        second.kill()
    assert _ledger(cluster, federated_database) == [committed]
    assert update.vector.tobytes() == again.vector.tobytes()
    assert update.spending is not None
    assert update.spending.epsilon_tight == committed[1]


async def test_killed_between_charge_and_release_it_computes_again_and_charges_once(
    cluster: Cluster, federated_database: str, federation: Federation, tmp_path: Path
) -> None:
    create_patients(cluster, federated_database)
    config = federation.node_config(cluster, federated_database, listen_port=free_port())
    task = train_task(noise_multiplier=10.0, budget=BUDGET)
    first = NodeProcess(config, tmp_path, faults="node.charge.committed=kill")
    client = federation.client(await first.port())
    with pytest.raises(FederatedError):
        await client.perform(task, federation.sealing, TIMEOUT)
    assert await first.ended() == -signal.SIGKILL
    await client.close()
    (charged,) = _ledger(cluster, federated_database)
    assert charged[2] is None, "nothing has left"
    second = NodeProcess(config, tmp_path)
    try:
        client = federation.client(await second.port())
        update = await client.perform(task, federation.sealing, TIMEOUT)
        await client.close()
    finally:
        second.kill()
    (released,) = _ledger(cluster, federated_database)
    assert released[:2] == charged[:2]
    assert released[2] is not None
    assert update.spending is not None
    assert update.spending.epsilon_tight == charged[1]


async def test_killed_before_the_door_it_has_charged_nothing(
    cluster: Cluster, federated_database: str, federation: Federation, tmp_path: Path
) -> None:
    create_patients(cluster, federated_database)
    config = federation.node_config(cluster, federated_database)
    node = NodeProcess(config, tmp_path, faults="node.task.received=kill")
    client = federation.client(await node.port())
    with pytest.raises(FederatedError):
        await client.perform(train_task(noise_multiplier=10.0, budget=BUDGET), federation.sealing, TIMEOUT)
    await client.close()
    assert await node.ended() == -signal.SIGKILL
    assert _ledger(cluster, federated_database) == []


async def test_plain_training_is_bit_equal_after_a_restart_and_whatever_the_order_of_the_rows(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    task = train_task()
    config = federation.node_config(cluster, federated_database)
    vectors = []
    for statement in (
        "SELECT 1",
        "CREATE INDEX ON patient (pressure); CLUSTER patient USING patient_pressure_idx",
    ):
        with cluster.connect(federated_database) as connection:
            connection.execute("DELETE FROM federated.release")
            for part in statement.split(";"):
                connection.execute(part)
        async with running_node(config) as port:
            client = federation.client(port)
            await measured(client, federation, task)
            update = await client.perform(task, federation.sealing, TIMEOUT)
            await client.close()
        vectors.append(update.vector.tobytes())
    assert vectors[0] == vectors[1]


async def test_runs_that_race_for_one_dataset_do_not_overspend(
    cluster: Cluster, federated_database: str, federation: Federation, tmp_path: Path
) -> None:
    create_patients(cluster, federated_database)
    # Two daemons over one database, so that nothing but the database can keep them apart.
    nodes = [NodeProcess(federation.node_config(cluster, federated_database), tmp_path) for _ in range(2)]
    try:
        clients = [federation.client(await node.port()) for node in nodes]
        tasks = [train_task(noise_multiplier=8.0, budget=BUDGET) for _ in range(8)]
        outcomes = await asyncio.gather(
            *(clients[i % 2].perform(task, federation.sealing, TIMEOUT) for i, task in enumerate(tasks)),
            return_exceptions=True,
        )
        for client in clients:
            await client.close()
    finally:
        for node in nodes:
            node.kill()
    spent = _ledger(cluster, federated_database)
    refused = [outcome for outcome in outcomes if isinstance(outcome, NodeRefusedError)]
    assert {error.reason for error in refused} == {ErrorCode.BUDGET_EXHAUSTED}
    assert len(spent) + len(refused) == 8
    assert all(epsilon <= BUDGET.epsilon for _, epsilon, _ in spent)  # type: ignore[operator]
    # Four of sigma 8 compose to one of sigma 4, which costs 0.96; a fifth would not fit.
    assert len(spent) == 4


async def test_two_daemons_asked_the_same_task_at_once_release_it_once(
    cluster: Cluster, federated_database: str, federation: Federation, tmp_path: Path
) -> None:
    create_patients(cluster, federated_database)
    config = federation.node_config(cluster, federated_database)
    nodes = [NodeProcess(config, tmp_path) for _ in range(2)]
    try:
        clients = [federation.client(await node.port()) for node in nodes]
        task = train_task(noise_multiplier=10.0, budget=BUDGET)
        with (
            cluster.connect(federated_database) as observer,
            cluster.connect(federated_database) as blocker,
            blocker.transaction(),
        ):
            # Both have found nothing released and wait for the rows before either can go on.
            blocker.execute("LOCK TABLE patient IN ACCESS EXCLUSIVE MODE")
            asking = [
                asyncio.create_task(client.perform(task, federation.sealing, TIMEOUT)) for client in clients
            ]
            await until(lambda: _waits(observer, 2))
        one, two = await asyncio.gather(*asking)
        for client in clients:
            await client.close()
    finally:
        for node in nodes:
            node.kill()
    assert one.vector.tobytes() == two.vector.tobytes()
    assert len(_ledger(cluster, federated_database)) == 1


async def test_what_was_released_is_sent_again_without_reading_a_row(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    config, task = federation.node_config(cluster, federated_database), statistics_task()
    async with running_node(config) as port:
        client = federation.client(port)
        first = await client.perform(task, federation.sealing, TIMEOUT)
        await client.close()
    with cluster.connect(federated_database) as connection:
        connection.execute("REVOKE SELECT ON federated_dataset.patients FROM federated_reader")
    async with running_node(config) as port:
        client = federation.client(port)
        again = await client.perform(task, federation.sealing, TIMEOUT)
        with pytest.raises(NodeRefusedError, match='dataset "patients" cannot be read'):
            await client.perform(statistics_task(), federation.sealing, TIMEOUT)
        await client.close()
    assert first.vector.tobytes() == again.vector.tobytes()


async def test_the_same_task_asked_twice_at_once_is_answered_once(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        task = train_task(noise_multiplier=10.0, budget=BUDGET)
        one, two = await asyncio.gather(
            *(client.perform(task, federation.sealing, TIMEOUT) for _ in range(2))
        )
        await client.close()
    assert one.vector.tobytes() == two.vector.tobytes()
    assert len(_ledger(cluster, federated_database)) == 1


async def test_an_asker_that_goes_away_leaves_the_answer_for_later(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        await client.heartbeat(TIMEOUT)
        task = statistics_task()
        with cluster.connect(federated_database) as blocker, blocker.transaction():
            blocker.execute("LOCK TABLE patient IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(FederatedError) as raised:
                await client.perform(task, federation.sealing, 0.5)
        update = await client.perform(task, federation.sealing, TIMEOUT)
        await client.close()
    assert raised.value.code is ErrorCode.TIMEOUT
    assert update.vector[0] == 200.0


async def test_a_node_outlives_a_restart_of_its_database(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    run = new_run()
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        await measured(client, federation, train_task(run=run))
        await client.perform(train_task(run=run, round_number=1), federation.sealing, TIMEOUT)
        cluster.stop("fast")
        try:
            with pytest.raises(NodeRefusedError) as raised:
                await client.perform(train_task(run=run, round_number=2), federation.sealing, TIMEOUT)
        finally:
            cluster.start()
        await client.perform(train_task(run=run, round_number=2), federation.sealing, TIMEOUT)
        await client.close()
    assert raised.value.reason is ErrorCode.UNREACHABLE
    assert raised.value.message.endswith("the node's database cannot be reached")


async def test_a_dead_training_process_is_a_refusal_and_a_new_process(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        await client.perform(statistics_task(), federation.sealing, TIMEOUT)
        (child,) = _children(os.getpid())
        with cluster.connect(federated_database) as blocker:
            # The reader waits for the table, so that the process dies in the middle of a task.
            blocker.execute("BEGIN")
            blocker.execute("LOCK TABLE patient IN ACCESS EXCLUSIVE MODE")
            asking = asyncio.create_task(client.perform(statistics_task(), federation.sealing, TIMEOUT))
            with cluster.connect(federated_database) as observer:
                await until(lambda: _waits(observer))
            os.kill(child, signal.SIGKILL)
            with pytest.raises(NodeRefusedError) as raised:
                await asking
            blocker.execute("ROLLBACK")
        update = await client.perform(statistics_task(), federation.sealing, TIMEOUT)
        await client.close()
    assert "training process died" in raised.value.message
    assert update.vector[0] == 200.0


async def test_a_task_beyond_the_nodes_time_limit_is_refused(
    cluster: Cluster, federated_database: str, federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_patients(cluster, federated_database)
    trainers: list[Trainer] = []
    initialize = Trainer.__init__

    def remembered(self: Trainer, **settings: Any) -> None:
        initialize(self, **settings)
        trainers.append(self)

    monkeypatch.setattr(Trainer, "__init__", remembered)
    config = federation.node_config(cluster, federated_database, task_limit_seconds=240.0)
    async with running_node(config) as port:
        client = federation.client(port)
        await client.perform(statistics_task(), federation.sealing, TIMEOUT)
        (trainer,) = trainers
        assert trainer._limit == 240.0
        with cluster.connect(federated_database) as blocker, blocker.transaction():
            blocker.execute("LOCK TABLE patient IN ACCESS EXCLUSIVE MODE")
            # Only here: what takes longer elsewhere is the machine's business.
            trainer._limit = 0.5
            with pytest.raises(NodeRefusedError) as raised:
                await client.perform(statistics_task(), federation.sealing, TIMEOUT)
            trainer._limit = 240.0
        await client.perform(statistics_task(), federation.sealing, TIMEOUT)
        await client.close()
    assert "longer than the node allows" in raised.value.message


async def test_the_training_process_holds_no_secret_of_the_daemon(
    cluster: Cluster, federated_database: str, federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_patients(cluster, federated_database)
    monkeypatch.setenv("PGPASSWORD", "a secret of the daemon")
    config = federation.node_config(cluster, federated_database)
    async with running_node(config) as port:
        client = federation.client(port)
        await client.perform(statistics_task(), federation.sealing, TIMEOUT)
        (child,) = _children(os.getpid())
        environment, arguments, limits, opened = _inspect(child)
        with cluster.connect(federated_database) as connection:
            users = connection.execute(
                "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'heliosdb node reader'"
            ).fetchall()
        await client.close()
    assert b"secret" not in environment
    assert b"heliosdb_" not in arguments + environment
    assert next(line for line in limits.splitlines() if "core file" in line).split()[4:6] == ["1", "1"]
    assert next(line for line in limits.splitlines() if "Max data size" in line).split()[3] == str(8 * 2**30)
    assert not [name for name in opened if name.endswith((".key", ".pem"))]
    assert users in ([], [("heliosdb_reader",)])


async def test_sigterm_ends_a_node_and_its_training_process(
    cluster: Cluster,
    federated_database: str,
    federation: Federation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(STARTED_WORKERS, "yes")
    create_patients(cluster, federated_database)
    node = NodeProcess(federation.node_config(cluster, federated_database), tmp_path)
    client = federation.client(await node.port())
    await client.perform(statistics_task(), federation.sealing, TIMEOUT)
    (child,) = _children(node.process.pid)
    node.process.terminate()
    assert await node.ended() == 0
    await client.close()
    assert not _runs(child)


async def test_sigterm_does_not_wait_for_a_task_that_waits(
    cluster: Cluster, federated_database: str, federation: Federation, tmp_path: Path
) -> None:
    create_patients(cluster, federated_database)
    node = NodeProcess(federation.node_config(cluster, federated_database), tmp_path)
    client = federation.client(await node.port())
    with (
        cluster.connect(federated_database) as observer,
        cluster.connect(federated_database) as blocker,
        blocker.transaction(),
    ):
        blocker.execute("LOCK TABLE patient IN ACCESS EXCLUSIVE MODE")
        asking = asyncio.create_task(client.perform(statistics_task(), federation.sealing, TIMEOUT))
        await until(lambda: _waits(observer))
        node.process.terminate()
        assert await node.ended() == 0
        with pytest.raises(FederatedError):
            await asking
    await client.close()
    assert _ledger(cluster, federated_database) == []


async def test_a_killed_daemon_takes_its_training_process_along(
    cluster: Cluster,
    federated_database: str,
    federation: Federation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(STARTED_WORKERS, "yes")
    create_patients(cluster, federated_database)
    node = NodeProcess(federation.node_config(cluster, federated_database), tmp_path)
    client = federation.client(await node.port())
    await client.perform(statistics_task(), federation.sealing, TIMEOUT)
    (child,) = _children(node.process.pid)
    node.kill()
    await client.close()
    await until(lambda: not _runs(child))


async def test_many_nodes_share_one_daemon_and_one_training_process(
    cluster: Cluster, federation: Federation
) -> None:
    configs = []
    for number in range(3):
        database = cluster.create_database("federated_template")
        create_patients(cluster, database, rows=100 + number)
        configs.append(federation.node_config(cluster, database, f"node{number}"))
    ready: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
    stopped = asyncio.Event()
    serving = asyncio.create_task(serve_many(configs, ready.set_result, stopped=stopped))
    ports = await ready
    clients = [federation.client(port, f"node{number}") for number, port in enumerate(ports)]
    updates = await asyncio.gather(
        *(client.perform(statistics_task(), federation.sealing, TIMEOUT) for client in clients)
    )
    children = _children(os.getpid())
    for client in clients:
        await client.close()
    stopped.set()
    await serving
    assert [update.weight for update in updates] == [100.0, 101.0, 102.0]
    assert len(children) == 1


def test_settings_are_checked_whole_and_secrets_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text("database = 'password=secret'\nreader = 5\nlisten_host = 'h'\nunknown = 1\n")
    with pytest.raises(FederatedError) as raised:
        load_config(path)
    assert raised.value.code is ErrorCode.INVALID_VALUE
    assert "secret" not in raised.value.message


def _waits(observer: psycopg.Connection, readers: int = 1) -> bool:
    row = observer.execute(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE application_name = 'heliosdb node reader' AND wait_event_type = 'Lock'"
    ).fetchone()
    return row is not None and row[0] >= readers


def _children(parent: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"heliosdb.node.training_process" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def _inspect(pid: int) -> tuple[bytes, bytes, str, list[str]]:
    process = Path(f"/proc/{pid}")
    opened = [str(link.readlink()) for link in (process / "fd").iterdir()]
    return (
        (process / "environ").read_bytes(),
        (process / "cmdline").read_bytes(),
        (process / "limits").read_text(),
        opened,
    )


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False

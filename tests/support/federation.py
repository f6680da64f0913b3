"""A federation for tests: an authority, a coordinator's identity, and nodes that run in this loop or in a process."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import psycopg

from heliosdb.algorithms.works import EvaluateWork, PrivateTraining, StatisticsWork, TrainWork
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.limits import NO_LIMITS, Limits
from heliosdb.domain.privacy import Budget
from heliosdb.domain.state import State, make_state
from heliosdb.domain.task import Reading, Scaling, Task, TaskKey
from heliosdb.domain.vector import Vector
from heliosdb.node.config import NodeConfig
from heliosdb.node.service import serve
from heliosdb.transport.authority import Authority
from heliosdb.transport.client import NodeClient, Traffic
from heliosdb.transport.identity import Identity
from heliosdb.transport.sealing import SealingKey
from tests.support.cluster import Cluster
from tests.support.daemons import Daemon

WORKSPACE = "consortium"
FEATURES = ("age", "pressure")
TARGET = "outcome"
STATISTICS, TRAIN, EVALUATE = (StepName(name) for name in ("statistics", "train", "evaluate"))
SCALING = Scaling(means=(50.0, 120.0), scales=(10.0, 15.0))
_DEADLINE = 300.0


def create_patients(
    cluster: Cluster, database: str, *, rows: int = 200, options: str = "", extra: str = ""
) -> None:
    """Make a table of patients and share it as dataset `patients` with the workspace."""
    with cluster.connect(database) as connection:
        connection.execute(
            "CREATE TABLE patient (patient_id integer, age integer, pressure numeric, smoker boolean, "
            "city text, outcome boolean, secret text)"
        )
        connection.execute("SELECT setseed(0.5)")
        connection.execute(
            "INSERT INTO patient SELECT i, 30 + (random() * 40)::integer, round((90 + random() * 60)::numeric, 1), "
            "random() < 0.3, 'Rome', random() < 0.4, 'x' FROM generate_series(1, %s) AS i",
            [rows],
        )
        share(connection, "patients", "patient (age, pressure, smoker, city, outcome)", options=options)


def share(connection: psycopg.Connection[Any], name: str, table: str, *, options: str = "") -> None:
    """Share a table as a dataset, by the language's own statement."""
    text = f"CREATE FEDERATED DATASET {name} FOR TABLE {table} IN WORKSPACE {WORKSPACE} {options}"
    connection.execute("CALL federated.execute(%s)", [text])


def keep_secret(state: Path, name: str) -> None:
    """Give a node of that name the secret that it has in every test: whom it holds out is no matter of luck."""
    state.mkdir(mode=0o700)
    secret = state / "node.key"
    secret.touch(mode=0o600)
    secret.write_bytes(hashlib.sha256(name.encode()).digest())


@dataclass(frozen=True)
class Federation:
    """Certificates and keys of one test, in a directory."""

    directory: Path
    authority: Authority = field(default_factory=lambda: Authority.create("test authority"))
    sealing: SealingKey = field(default_factory=SealingKey.generate)

    def __post_init__(self) -> None:
        self.write("coordinator", self.authority.issue("coordinator", ["localhost"]))

    @property
    def coordinator(self) -> Identity:
        """The coordinator's identity."""
        return Identity.load(self.directory / "coordinator.pem", self.directory / "coordinator.key")

    def write(self, name: str, identity: Identity) -> None:
        """Put an identity into files."""
        (self.directory / f"{name}.pem").write_bytes(identity.certificate_pem)
        (self.directory / f"{name}.key").write_bytes(identity.private_key_pem)

    def node_config(
        self, cluster: Cluster, database: str, name: str = "node", **changes: object
    ) -> NodeConfig:
        """A node's settings over a database of the test's cluster."""
        if not (self.directory / f"{name}.pem").exists():
            self.write(name, self.authority.issue(name, ["localhost", "127.0.0.1"]))
            keep_secret(self.directory / f"{name}-state", name)
        settings: dict[str, object] = {
            "database": cluster.dsn(database, user="heliosdb_daemon"),
            "reader": cluster.dsn(database, user="heliosdb_reader"),
            "certificate": self.directory / f"{name}.pem",
            "private_key": self.directory / f"{name}.key",
            "coordinator_certificate": self.directory / "coordinator.pem",
            "state_directory": self.directory / f"{name}-state",
            "plain_answers": True,
        }
        if not {"dial", "flower_socket"} & changes.keys():
            settings |= {"listen_host": "127.0.0.1", "listen_port": 0}
        return NodeConfig.model_validate(settings | changes)

    def client(
        self,
        port: int,
        name: str = "node",
        *,
        identity: Identity | None = None,
        traffic: Callable[[], Traffic] = Traffic,
        limits: Limits = NO_LIMITS,
    ) -> NodeClient:
        """The coordinator's client of a node."""
        pinned = [(self.directory / f"{name}.pem").read_bytes()]
        endpoint, shown = f"https://localhost:{port}", identity or self.coordinator
        return NodeClient(endpoint, pinned, shown, traffic=traffic, limits=limits)


@contextlib.asynccontextmanager
async def running_node(config: NodeConfig) -> AsyncIterator[int]:
    """A node in this event loop; gives its port."""
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(config, ready.set_result))
    try:
        await asyncio.wait({ready, serving}, timeout=_DEADLINE, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
        yield ready.result()
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


class NodeProcess:
    """A node as a process of its own, for faults that end it."""

    def __init__(
        self, config: NodeConfig, directory: Path, *, faults: str = "", log: Path | None = None
    ) -> None:
        self._ready = directory / f"ready-{uuid4().hex}"
        self.settings = path = directory / f"node-{uuid4().hex}.toml"
        settings = config.model_dump(mode="json", exclude_none=True, exclude_unset=True) | {
            "database": config.database.get_secret_value(),
            "reader": config.reader.get_secret_value(),
        }
        if config.proxy is not None:
            settings["proxy"] = config.proxy.get_secret_value()
        path.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in settings.items()))
        environment = {**os.environ, "HELIOSDB_FAULTS": faults}
        arguments = (str(path), str(self._ready))
        if log is None:
            self.process = Daemon("node", *arguments, environment=environment)
            return
        with log.open("a") as file:
            self.process = Daemon("node", *arguments, environment=environment, stderr=file.fileno())

    async def port(self) -> int:
        """The node's port, once it serves."""
        await until(lambda: self._ready.exists() or self.process.poll() is not None)
        return int(self._ready.read_text())

    async def ended(self) -> int:
        """Wait for the process to end and return its status."""
        await until(lambda: self.process.poll() is not None)
        return int(self.process.returncode)

    def kill(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()


async def has_stopped(pid: int) -> None:
    """Wait until a process is stopped by a signal."""
    await until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; an AssertionError after the deadline."""
    async with asyncio.timeout(_DEADLINE):
        while not condition():  # noqa: ASYNC110 - files and processes give no events
            await asyncio.sleep(0.02)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    return str(value) if isinstance(value, int | float) else f"'{value}'"


def new_run() -> RunId:
    """A fresh run id."""
    return RunId(uuid4())


def key(step: str, *, run: UUID | None = None, round_number: int = 1, node: str = "node") -> TaskKey:
    """A task's key in the test's workspace; evaluation is a round's second exchange."""
    return TaskKey(
        WorkspaceName(WORKSPACE),
        RunId(run or uuid4()),
        RoundNumber(round_number),
        1 if step == EVALUATE else 0,
        StepName(step),
        NodeName(node),
    )


READING = Reading(dataset=None, features=FEATURES, target=TARGET, validation_split=0.25, seed=7)


def parameters_state(parameters: Vector) -> State:
    """The state of a model that is nothing but parameters."""
    return make_state(parameters=parameters)


def statistics_task(
    *, run: UUID | None = None, noise_multiplier: float | None = None, budget: Budget | None = None
) -> Task:
    """A task of round 0."""
    work = StatisticsWork("logistic_regression", noise_multiplier, classes=2).to_work(len(FEATURES))
    return Task(key(STATISTICS, run=run, round_number=0), READING, work, budget=budget)


async def measured(client: NodeClient, federation: Federation, *tasks: Task) -> None:
    """Ask for the statistics of plain tasks' runs, without which a node answers none of them."""
    for run, reading in {task.key.run: task.reading for task in tasks}.items():
        work = StatisticsWork("logistic_regression", None, classes=2).to_work(len(reading.features))
        first = replace(statistics_task(run=run), reading=reading, work=work)
        await client.perform(first, federation.sealing, _DEADLINE)


def train_task(
    *,
    run: UUID | None = None,
    round_number: int = 1,
    parameters: Vector | None = None,
    noise_multiplier: float | None = None,
    budget: Budget | None = None,
) -> Task:
    """A task of local training, plain or private."""
    work = TrainWork("logistic_regression", SCALING, 2, 32, 0.1, classes=2)
    if noise_multiplier is not None:
        private = PrivateTraining(noise_multiplier, 1.0, 1.0, steps=1, expected_subjects=100.0)
        work = replace(work, privacy=private)
    chosen = np.zeros(len(FEATURES) + 1) if parameters is None else parameters
    return Task(
        key(TRAIN, run=run, round_number=round_number),
        READING,
        work.to_work(len(chosen)),
        SCALING,
        parameters_state(chosen),
        budget,
    )


def evaluate_task(
    *, run: UUID | None = None, round_number: int = 1, noise_multiplier: float | None = None
) -> Task:
    """A task of evaluation."""
    work = EvaluateWork("logistic_regression", SCALING, noise_multiplier, classes=2).to_work()
    budget = None if noise_multiplier is None else Budget(10.0, 1e-5)
    state = parameters_state(np.array([0.5, -0.25, 0.1]))
    return Task(key(EVALUATE, run=run, round_number=round_number), READING, work, SCALING, state, budget)

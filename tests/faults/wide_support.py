"""Five nodes whose run can be computed again by hand from what the catalog says of it: who counted in which round.

What is trained is `benchmarks.wide`: each parameter of a node is pulled towards the mean of one of its features. The
features are whole numbers and the rows a power of two, so a mean has no rounding that depends on the order of rows.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from heliosdb.aggregation.fedavg import FEDAVG
from heliosdb.aggregation.gathering import WeightedGathering
from heliosdb.domain.ids import NodeName
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.update import Update
from tests.integration.coordinator.support import (
    WORKSPACE,
    CoordinatorProcess,
    Site,
    World,
    create_model,
    create_workspace,
)
from tests.support.line import Line, Pace

FEATURES = tuple(f"x{number}" for number in range(1, 10))
"""Of `benchmarks.wide`, which is not imported here: that would register its algorithms with every other test's."""

PART = "benchmarks.wide"
NAMES = ("a", "b", "c", "d", "e")
ENDLESS = 100_000
_VALUES = ", ".join(
    f"((i * {37 + 2 * place} + {{number}} * 11) % 101)::float8 AS {name}"
    for place, name in enumerate(FEATURES)
)

Vector = NDArray[np.float64]


@dataclass
class Five:
    """The federation. lines: through which the coordinator reaches the last two nodes."""

    world: World
    lines: dict[str, Line] = field(default_factory=dict)

    def site(self, name: str) -> Site:
        """A node by its name."""
        return next(site for site in self.world.sites if site.name == name)

    def start(self, *, rounds: int, parameters: int = 10) -> UUID:
        """START a run of so many rounds and parameters; returns its id."""
        world = self.world
        options = f"rounds = {rounds}, early_stopping_rounds = {ENDLESS}, convergence_threshold = 0"
        with world.catalog() as connection, connection.transaction():
            statement = f"START FEDERATED TRAINING risk WITH ({options}, validation_split = 0)"
            connection.execute("CALL federated.execute(%s)", [statement])
            given = json.dumps({"algorithm": "wide", "parameters": parameters})
            row = connection.execute(
                "UPDATE federated.run SET options = options || %s WHERE status = 'queued' RETURNING run_id",
                [given],
            ).fetchone()
        assert row is not None
        return UUID(str(row["run_id"]))

    async def closed(self, run: UUID, number: int) -> None:
        """Wait until a round is closed, or the run over."""
        await self.world.reached(
            "EXISTS (SELECT FROM federated.round WHERE run_id = %s AND round_number >= %s AND status = 'closed')"
            " OR EXISTS (SELECT FROM federated.run WHERE run_id = %s AND status NOT IN ('queued', 'running'))",
            run,
            number,
            run,
        )

    def last_closed(self, run: UUID) -> int:
        """The number of the last closed round."""
        (row,) = self.world.query(
            "SELECT max(round_number) AS n FROM federated.round WHERE run_id = %s AND status = 'closed'", run
        )
        return int(row["n"] or 0)

    async def counted(self, run: UUID, names: str, *, after: int) -> None:
        """Wait until each of these nodes has counted in some later round."""
        await self.world.reached(
            "(SELECT count(DISTINCT n.name) = %s FROM federated.participation AS p"
            " JOIN federated.node AS n USING (node_id) WHERE p.run_id = %s AND p.round_number > %s"
            " AND p.outcome = 'received' AND n.name = ANY (%s))",
            len(names),
            run,
            after,
            list(names),
        )

    async def ended(self, run: UUID, status: str) -> None:
        """Wait for the end of a run."""
        await self.world.reached(
            "EXISTS (SELECT FROM federated.run WHERE run_id = %s AND status NOT IN ('queued', 'running'))",
            run,
        )
        (row,) = self.world.query("SELECT status::text, message FROM federated.run WHERE run_id = %s", run)
        assert row["status"] == status, row

    def cohorts(self, run: UUID) -> Mapping[int, dict[str, float]]:
        """Who counted in each training round of a run, and with how many rows, as the catalog has it."""
        rows = self.world.query(
            "SELECT p.round_number, n.name, p.weight FROM federated.participation AS p JOIN federated.round AS r"
            " USING (run_id, round_number) JOIN federated.node AS n USING (node_id) WHERE p.run_id = %s"
            " AND p.outcome = 'received' AND p.round_number > 0 AND r.status = 'closed' ORDER BY 1, 2",
            run,
        )
        found: dict[int, dict[str, float]] = {}
        for row in rows:
            found.setdefault(row["round_number"], {})[row["name"]] = row["weight"]
        return found

    def demand_replay(self, run: UUID, *, parameters: int = 10) -> Mapping[int, dict[str, float]]:
        """The history has every round once, and the model is what it leads to; returns who counted when."""
        world, cohorts = self.world, self.cohorts(run)
        rounds = world.query(
            "SELECT round_number FROM federated.round WHERE run_id = %s AND status = 'closed'", run
        )
        numbers = list(range(len(rounds)))
        for kind in ("round.opened", "round.closed"):
            told = world.query(
                "SELECT DISTINCT round_number FROM federated.event WHERE run_id = %s AND kind = %s"
                " ORDER BY round_number",
                run,
                kind,
            )
            assert [one["round_number"] for one in told][: len(numbers)] == numbers
        closed = world.query(
            "SELECT round_number FROM federated.event WHERE run_id = %s AND kind = 'round.closed' ORDER BY event_id",
            run,
        )
        assert [one["round_number"] for one in closed] == numbers == [0, *cohorts]
        (version,) = world.query(
            "SELECT round_number, prediction FROM federated.version WHERE run_id = %s", run
        )
        assert version["round_number"] == numbers[-1]
        told = version["prediction"]
        weights = self._replay(cohorts, parameters)
        assert [told["intercept"], *told["slopes"]] == weights[:10].tolist()
        return cohorts

    def _replay(self, cohorts: Mapping[int, dict[str, float]], parameters: int) -> Vector:
        """The parameters that these cohorts lead to, by the product's own rule."""
        means = {site.name: self._means(site) for site in self.world.sites}
        weights = np.zeros(parameters)
        for counted in cohorts.values():
            gathering = WeightedGathering(parameters)
            for name, rows in counted.items():
                moved = 0.1 * (np.resize(means[name], parameters) - weights)
                gathering.take(Update(NodeName(name), moved, rows))
            weights, _ = FEDAVG.combine(weights, NO_STATE, gathering.result(), None)
        return weights

    def _means(self, site: Site) -> Vector:
        columns = ", ".join(f"avg({name}) AS {name}" for name in FEATURES)
        with self.world.cluster.connect(site.database) as connection:
            row = connection.execute(f"SELECT {columns} FROM spread".encode()).fetchone()
        assert row is not None
        return np.array(row, dtype=np.float64) / 100.0

    @asynccontextmanager
    async def led(self, pace: Pace | None = None, **settings: Any) -> AsyncIterator[CoordinatorProcess]:
        """Open the lines and have a coordinator lead, with every node there. pace: of the lines."""
        for line in self.lines.values():
            line.pace = pace
            await line.open()
        coordinator = self.world.start_coordinator(**({"heartbeat_timeout": 1.0} | settings))
        try:
            await self.all_active()
            yield coordinator
        finally:
            coordinator.kill()
            for line in self.lines.values():
                await line.close()

    async def all_active(self) -> None:
        """Wait until the coordinator knows every node to be there."""
        await self.world.reached("(SELECT count(*) = 5 FROM federated.node WHERE status = 'active')")


async def add_wide_site(world: World, name: str, number: int, *, rows: int = 1024) -> Site:
    """A node with rows for a wide model, not registered yet. rows: a power of two."""
    site = Site(name, world.cluster.create_database("federated_template"))
    with world.cluster.connect(site.database) as connection:
        values = _VALUES.format(number=number)
        connection.execute(
            f"CREATE TABLE spread AS SELECT {values}, (i % 2)::integer AS outcome"
            f" FROM generate_series(1, {rows}) AS i".encode()
        )
        share = f"CREATE FEDERATED DATASET spread FOR TABLE spread IN WORKSPACE {WORKSPACE}"
        connection.execute("CALL federated.execute(%s)", [f"{share} WITH (max_parameter_share = 1000)"])
    world.sites.append(site)
    await world.start_site(site)
    return site


def create_wide_model(world: World) -> None:
    """A model for runs of the wide part: the statement knows no name for it, the run's row does."""
    create_model(
        world, algorithm="linear_regression", features=FEATURES, seed=None, learning_rate=None, rounds=None
    )


async def found_five(world: World) -> Five:
    """Make it, without a coordinator: of five nodes three are enough for a round."""
    made = Five(world)
    world.parts = (PART,)
    create_workspace(world, min_nodes=5, min_nodes_per_round=3, stragglers_timeout=20, round_timeout=240)
    for number, name in enumerate(NAMES):
        site = await add_wide_site(world, name, number)
        if name in ("d", "e"):
            made.lines[name] = Line(site.port)
            site.port = made.lines[name].port
        world.register(site)
    create_wide_model(world)
    return made

"""Two sites with a table for every family, and a coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from tests.integration.coordinator.support import WORKSPACE, World, create_workspace, make_world
from tests.support.cluster import Cluster

COLUMNS = (
    "a",
    "b",
    "flag",
    "ill",
    "cost",
    "visits",
    "share",
    "exposure",
    "months",
    "died",
    "halved",
    "grade",
)


@dataclass
class Clinics:
    """A federation whose rows are known. pooled: the columns of all rows, each an array; NaN for NULL."""

    world: World
    pooled: dict[str, np.ndarray]

    def train(self, name: str, **options: Any) -> dict[str, Any]:
        """Make a model, start its training and wait; returns the run."""
        given = {"features": "['a', 'b', 'flag']", "validation_split": 0.0, "rounds": 20} | options
        listed = ", ".join(f"{key} = {value}" for key, value in given.items() if value is not None)
        self.world.execute(f"CREATE FEDERATED MODEL {name} IN WORKSPACE {WORKSPACE} WITH ({listed})")
        return self.run(name)

    def run(self, name: str, options: str = "") -> dict[str, Any]:
        """Start a training and wait; returns the run."""
        before = len(self.world.runs())
        self.world.execute(f"START FEDERATED TRAINING {name}{options}")
        return asyncio.run(self.world.finished(count=before + 1))

    def coefficients(self, name: str) -> dict[str, dict[str, Any]]:
        """federated_coefficients by term."""
        rows = self.world.query("SELECT * FROM federated_coefficients(%s)", name)
        return {row["term"]: row for row in rows}

    def design(self) -> np.ndarray:
        """The pooled features, the intercept first, what is missing at the pooled mean."""
        columns = [self.pooled[name] for name in ("a", "b", "flag")]
        filled = [np.where(np.isnan(one), np.nanmean(one), one) for one in columns]
        return np.column_stack([np.ones(filled[0].size), *filled])


def make_rows(seed: int, rows: int = 150) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(50.0 + 5.0 * seed, 10.0, rows), rng.exponential(2.0, rows)
    flag = (rng.random(rows) < 0.3).astype(float)
    score = 0.05 * (a - 50.0) - 0.2 * b + 0.6 * flag
    waited = rng.exponential(np.exp(-score) * 12.0)
    rows_of = {
        "a": a,
        "b": np.where(rng.random(rows) < 0.05, np.nan, b),
        "flag": flag,
        "ill": (rng.random(rows) < 1 / (1 + np.exp(-score))).astype(float),
        "cost": 1e3 + 40.0 * score + rng.normal(0.0, 25.0, rows),
        "visits": rng.poisson(np.exp(0.5 * score + 1.0)).astype(float),
        "share": rng.uniform(0.5, 2.0, rows),
        "exposure": rng.normal(0.0, 0.3, rows),
        "months": np.ceil(np.minimum(waited, 24.0)),
        "died": (waited <= 24.0).astype(float),
        "halved": 100.0 - a / 2,
    }
    rows_of["grade"] = np.digitize(rows_of["cost"], [990.0, 1020.0]).astype(float)
    return rows_of


def fill(cluster: Cluster, database: str, rows: dict[str, np.ndarray]) -> None:
    with cluster.connect(database) as connection:
        listed = ", ".join(f"{name} double precision" for name in COLUMNS if name not in ("flag", "died"))
        connection.execute(
            f"CREATE TABLE visit (visit_id serial PRIMARY KEY, {listed}, flag boolean, died boolean)"
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO visit ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))})",
                [
                    tuple(
                        None
                        if np.isnan(rows[name][place])
                        else bool(rows[name][place])
                        if name in ("flag", "died")
                        else float(rows[name][place])
                        for name in COLUMNS
                    )
                    for place in range(rows["a"].size)
                ],
            )
        connection.execute(
            "CALL federated.execute(%s)",
            [
                f"CREATE FEDERATED DATASET visits FOR TABLE visit ({', '.join(COLUMNS)}) IN WORKSPACE {WORKSPACE}"
            ],
        )


@pytest.fixture(scope="module")
def clinics(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinics]:
    """Two clinics; models of any name may be made of their visits."""
    directory: Path = tmp_path_factory.mktemp("clinics")
    with make_world(cluster, directory, cluster.create_database("federated_template")) as world:
        create_workspace(world, min_nodes=2)
        parts = [make_rows(seed) for seed in (0, 1)]
        for name, rows in zip(("north", "south"), parts, strict=True):
            site = asyncio.run(world.add_site(name, shares=False))
            fill(cluster, site.database, rows)
            world.register(site)
        world.start_coordinator()
        pooled = {name: np.concatenate([one[name] for one in parts]) for name in COLUMNS}
        yield Clinics(world, pooled)


def notices_of(world: World, statement: str) -> list[tuple[str, str | None]]:
    """What a query's notices say, with their DETAIL."""
    heard: list[tuple[str, str | None]] = []

    def hear(notice: psycopg.errors.Diagnostic) -> None:
        heard.append((notice.message_primary or "", notice.message_detail))

    with world.catalog() as connection:
        connection.add_notice_handler(hear)
        connection.execute(statement)
    return heard

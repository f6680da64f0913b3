"""What nodes say of their held-out rows, federated_evaluate says of the same rows in the caller's hands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from psycopg import sql

from heliosdb.domain.ids import DatasetName
from heliosdb.node.datasets import TableRequest, table_key
from heliosdb.node.worker import TableReader
from heliosdb.transport.sealing import load_or_create_secret
from tests.integration.coordinator.support import Site
from tests.integration.regression.conftest import Clinics

FEATURES = ("a", "b", "flag")
SPLIT = 0.4
REGRESSION = ("rmse", "mae", "r2")
CLASSES = ("precision", "recall", "f1_score", "brier")
FOREST = {
    "algorithm": "'random_forest'", "trees": 3, "max_depth": 2, "rounds": None, "target_classes": "['0', '1']",
}  # fmt: skip

Figures = dict[str, float | None]


def held_out(clinics: Clinics, site: Site, target: str, roles: Sequence[tuple[str, str]]) -> np.ndarray:
    """The rows that a node's secret chooses: features, columns with a role, and the target."""
    directory, cluster = clinics.world.federation.directory, clinics.world.cluster
    with clinics.world.cluster.connect(site.database) as connection:
        [(dataset_id,)] = connection.execute("SELECT dataset_id FROM federated.dataset").fetchall()
    request = TableRequest(
        run="",
        dataset_id=dataset_id,
        dataset=DatasetName("visits"),
        base_tables=(),
        features=FEATURES,
        target=target,
        validation_split=SPLIT,
        subject=None,
        known_by=("visit_id",),
        key=table_key(load_or_create_secret(directory / f"{site.name}-state" / "node.key")),
        plain=True,
        min_rows=20,
        max_parameter_share=1.0,
        roles=tuple(roles),
    )
    rows = (
        TableReader().read(cluster.dsn(site.database, user="heliosdb_reader"), request, ()).table.validation()
    )
    return np.column_stack([rows.features, *(rows.roles[role] for role, _ in roles), rows.target])


def on_rows(clinics: Clinics, model: str, rows: np.ndarray, columns: Sequence[str]) -> Figures:
    """federated_evaluate over rows that the coordinator's database has been given."""
    created = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL("boolean" if name == "flag" else "float8"))
        for name in columns
    )
    with clinics.world.catalog() as connection:
        connection.execute(sql.SQL("CREATE TEMPORARY TABLE own ({})").format(created))
        with connection.cursor().copy("COPY own FROM STDIN") as copy:
            for row in rows.tolist():
                copy.write_row(
                    [
                        None if math.isnan(value) else bool(value) if name == "flag" else value
                        for name, value in zip(columns, row, strict=True)
                    ]
                )
        found = connection.execute(
            "SELECT metric, value FROM federated_evaluate(%s, 'TABLE own', resamples => 0)", [model]
        ).fetchall()
    return {row["metric"]: row["value"] for row in found}


def demand_alike(found: Figures, known: Figures) -> None:
    """What is undefined, as precision where nobody is predicted to be ill, is so in both."""
    undefined = {key for key, value in known.items() if value is None}
    assert {key for key, value in found.items() if value is None} == undefined
    numbers = {key: value for key, value in known.items() if key not in undefined}
    assert {key: found[key] for key in numbers} == pytest.approx(numbers, rel=1e-6)


@pytest.mark.parametrize(
    ("model", "target", "options", "roles", "names"),
    [
        ("sick", "ill", {"algorithm": "'logistic_regression'", "optimizer": "'newton'"}, (), CLASSES),
        ("grown", "ill", FOREST, (), CLASSES),
        (
            "graded", "grade",
            {"algorithm": "'logistic_regression'", "rounds": 3, "target_classes": "['0', '1', '2']"}, (), CLASSES,
        ),
        ("dear", "cost", {"algorithm": "'linear_regression'", "optimizer": "'newton'"}, (), REGRESSION),
        (
            "often", "visits",
            {"algorithm": "'poisson_regression'", "optimizer": "'newton'", "offset": "'exposure'"},
            (("offset", "exposure"),), REGRESSION,
        ),
        (
            "gone", "months", {"algorithm": "'cox_regression'", "optimizer": "'newton'", "event": "'died'"},
            (("event", "died"),), (),
        ),
    ],
)  # fmt: skip
def test_both_forms_of_an_evaluation_say_the_same_of_the_same_rows(
    clinics: Clinics,
    model: str,
    target: str,
    options: dict[str, Any],
    roles: Sequence[tuple[str, str]],
    names: Sequence[str],
) -> None:
    for site in clinics.world.sites:
        # Where a model is wrong about a few, a node would not say by class.
        with clinics.world.cluster.connect(site.database) as connection:
            connection.execute("CALL federated.execute('ALTER FEDERATED DATASET visits SET (min_cell = 1)')")
    run = clinics.train(model, target=f"'{target}'", validation_split=SPLIT, **options)
    assert run["status"] in ("completed", "converged"), run
    columns = (*FEATURES, *(column for _, column in roles), target)
    each = {site.name: held_out(clinics, site, target, roles) for site in clinics.world.sites}
    [reported] = clinics.world.query(
        "SELECT federated._evaluate_columns(%s, columns => '{per_node_metrics}') AS found", model
    )
    of_nodes = reported["found"][0]["per_node_metrics"]
    for name, rows in each.items():
        here = on_rows(clinics, model, rows, columns)
        known = {key: value for key, value in of_nodes[name].items() if key in here}
        assert known["rows"] == len(rows) > 30
        demand_alike({key: here[key] for key in known}, known)
    pooled = on_rows(clinics, model, np.concatenate(list(each.values())), columns)
    said = {
        row["metric"].removeprefix("global_"): row["value"]
        for row in clinics.world.query("SELECT * FROM federated_evaluate(%s)", model)
    }
    expected = ("loss", "base_loss", *names) if names else ()
    demand_alike({name: pooled[name] for name in expected}, {name: said[name] for name in expected})
    if "accuracy" in pooled:
        assert pooled["accuracy"] == pytest.approx(said["accuracy"])

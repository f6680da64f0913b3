"""Newton steps over texts and dates: coefficients by level, those of the pooled rows with an indicator of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pytest
import statsmodels.api as sm

from tests.integration.coordinator.support import World
from tests.integration.features.columns import encoding, train

pytestmark = pytest.mark.xdist_group("features")

FEATURES = ("city", "seen", "age")
CITIES = ("Bonn", "Köln", "Rom", None)
TERMS = ["(intercept)", "city=Köln", "city=Rom", "city=NULL", "seen", "age"]
FIRST_DAY = date(2024, 1, 1)
EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Rows:
    """Rows of a site: each is of a city (place in `CITIES`), days behind the first, an age, and what became."""

    city: np.ndarray
    days: np.ndarray
    age: np.ndarray
    outcome: np.ndarray

    @classmethod
    def make(cls, seed: int, rows: int = 260) -> Rows:
        """One site's, unlike those of another seed."""
        rng = np.random.default_rng(seed)
        city = rng.choice(4, rows, p=[0.4, 0.3, 0.2, 0.1] if seed else [0.1, 0.3, 0.4, 0.2])
        days, age = rng.integers(0, 300, rows), rng.normal(50.0 + 8.0 * seed, 12.0, rows)
        scores = np.column_stack(
            [
                np.zeros(rows),
                np.array([-0.4, 0.5, 0.9, 0.1])[city] + 0.004 * (days - 150) + 0.02 * (age - 50.0),
                np.array([0.3, -0.2, 0.4, 0.6])[city] - 0.003 * (days - 150) + 0.03 * (age - 50.0),
            ]
        )
        drawn = scores + rng.gumbel(size=scores.shape)
        return cls(city, days, age, np.argmax(drawn, axis=1))

    def setup(self, outcomes: tuple[str, ...], kind: str) -> str:
        """The SQL of a table with these rows, the outcome as one of so many labels, the last of all others."""
        values = []
        for city, days, age, outcome in zip(self.city, self.days, self.age, self.outcome, strict=True):
            name = "NULL" if CITIES[city] is None else f"'{CITIES[city]}'"
            seen = FIRST_DAY + timedelta(days=int(days))
            label = outcomes[min(int(outcome), len(outcomes) - 1)]
            values.append(f"({name}, '{seen}', {float(age)!r}, '{label}')")
        return (
            f"CREATE TABLE t (city text, seen date, age double precision, outcome {kind}); "
            f"INSERT INTO t VALUES {', '.join(values)}"
        )


SITES = {"north": Rows.make(0), "south": Rows.make(1)}


def pooled(name: str) -> np.ndarray:
    """A column of all rows."""
    return np.concatenate([getattr(rows, name) for rows in SITES.values()])


def design(middle: float) -> np.ndarray:
    """The pooled rows in the order of the terms; dates in days behind so many of the first."""
    city = pooled("city")
    indicators = [city == place for place in (1, 2, 3)]
    return np.column_stack([np.ones(city.size), *indicators, pooled("days") - middle, pooled("age")])


def own_units(middle: float) -> np.ndarray:
    """From coefficients of `design` to those of days since 1970, which alone would lose digits."""
    start = (FIRST_DAY - EPOCH).days + middle
    moved = np.eye(len(TERMS))
    moved[0, TERMS.index("seen")] = -start
    return moved


async def test_the_odds_of_a_text_and_a_date_are_those_of_the_pooled_indicators(world: World) -> None:
    setups = {name: rows.setup(("false", "true"), "boolean") for name, rows in SITES.items()}
    run = await train(
        world,
        setups,
        FEATURES,
        "outcome",
        optimizer="newton",
        learning_rate=None,
        validation_split=0,
        rounds=30,
    )

    assert run["status"] == "converged", run
    assert encoding(world).inputs == tuple(TERMS[1:])
    middle = float(pooled("days").mean())
    oracle = sm.Logit((pooled("outcome") > 0).astype(float), design(middle)).fit(
        disp=0, method="newton", tol=1e-14, maxiter=100
    )
    expected = oracle.t_test(own_units(middle))
    found = world.query("SELECT * FROM federated_coefficients('risk')")
    assert [row["term"] for row in found] == TERMS
    for name, values in (
        ("estimate", expected.effect),
        ("std_error", expected.sd),
        ("p_value", expected.pvalue),
        ("conf_low", expected.conf_int()[:, 0]),
        ("conf_high", expected.conf_int()[:, 1]),
    ):
        np.testing.assert_allclose([row[name] for row in found], np.ravel(values), rtol=1e-6, atol=1e-9)

    for place, city in enumerate(CITIES):
        ((predicted,),) = [
            tuple(row.values())
            for row in world.query(
                "SELECT federated_model.risk(city => %s, seen => '2024-03-01', age => 61.5) AS p", city
            )
        ]
        row = np.array([1.0, place == 1, place == 2, place == 3, 60 - middle, 61.5])
        assert predicted == pytest.approx(1.0 / (1.0 + np.exp(-(row @ oracle.params))), rel=1e-9)


async def test_of_three_labels_each_has_its_own_odds_against_the_first(world: World) -> None:
    labels = ("home", "ward", "west wing")
    setups = {name: rows.setup(labels, "text") for name, rows in SITES.items()}
    run = await train(
        world,
        setups,
        FEATURES,
        "outcome",
        optimizer="newton",
        learning_rate=None,
        validation_split=0,
        rounds=30,
    )

    assert run["status"] == "converged", run
    middle = float(pooled("days").mean())
    oracle = sm.MNLogit(pooled("outcome"), design(middle)).fit(
        disp=0, method="newton", tol=1e-14, maxiter=100
    )
    found = world.query("SELECT * FROM federated_coefficients('risk')")
    assert [row["term"] for row in found] == [f"{label}: {term}" for label in labels[1:] for term in TERMS]
    expected = own_units(middle) @ oracle.params
    np.testing.assert_allclose([row["estimate"] for row in found], expected.T.ravel(), rtol=1e-6, atol=1e-9)
    same = [place for place in range(len(found)) if place % len(TERMS)]
    np.testing.assert_allclose(
        [found[place]["std_error"] for place in same], oracle.bse.T.ravel()[same], rtol=1e-6
    )

    (row,) = world.query(
        'SELECT federated_predict_class(\'risk\', \'{"city": "Rom", "seen": "2024-03-01", "age": 61.5}\') AS label,'
        " federated_proba.risk(city => 'Rom', seen => '2024-03-01', age => 61.5) AS shares"
    )
    shares = oracle.predict(np.array([[1.0, 0, 1, 0, 60 - middle, 61.5]]))[0]
    np.testing.assert_allclose(row["shares"], shares, rtol=1e-8)
    assert row["label"] == labels[int(np.argmax(shares))]

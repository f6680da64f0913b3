"""The demo's patients: scikit-learn's bundled diabetes study (Efron et al. 2004) in its raw units.

What always holds: hospitals differ (they are age bands), every patient is in one hospital, and the held-out
patients are in none: they are what the finished models are judged by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEATURES = ("age", "blood_pressure", "cholesterol", "bmi")
SEX, SEXES = "sex", ("1", "2")
"""A text, as the study codes it; it does not say which is which."""

TARGET = "disease_outcome"
_COLUMNS = ("age", "bp", "s1", "bmi")
_HELD_OUT_SHARE = 0.15
_SEED = 20_04


@dataclass(frozen=True, slots=True)
class Patients:
    """Rows of one place: features (n x 4) in raw units, sexes (n), outcomes (n) 0 or 1."""

    features: NDArray[np.float64]
    sexes: NDArray[np.str_]
    outcomes: NDArray[np.int64]

    def rows(self) -> list[tuple[float | int | str, ...]]:
        """The rows as they go into a table: id, features, sex, outcome."""
        described = zip(self.features, self.sexes, self.outcomes, strict=True)
        return [
            (number, *map(float, values), str(sex), int(outcome))
            for number, (values, sex, outcome) in enumerate(described, 1)
        ]

    def inputs(self) -> NDArray[np.float64]:
        """Features, and behind them whether the sex is the second, (n x 5)."""
        return np.column_stack([self.features, self.sexes == SEXES[1]])


@dataclass(frozen=True, slots=True)
class Study:
    """The hospitals' patients and those held out."""

    hospitals: tuple[Patients, ...]
    held_out: Patients

    def pooled(self) -> Patients:
        """All hospitals' rows in one place: what the federated model never sees, for comparison only."""
        return Patients(
            np.concatenate([hospital.features for hospital in self.hospitals]),
            np.concatenate([hospital.sexes for hospital in self.hospitals]),
            np.concatenate([hospital.outcomes for hospital in self.hospitals]),
        )


def load_study(hospitals: int) -> Study:
    """Load the study and split it into `hospitals` age bands of equal size, one row in seven held out."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    features = data.data[:, [data.feature_names.index(column) for column in _COLUMNS]]
    sexes = np.array([f"{code:.0f}" for code in data.data[:, data.feature_names.index("sex")]])
    outcomes = (data.target > np.median(data.target)).astype(np.int64)
    held_out = np.random.default_rng(_SEED).random(len(outcomes)) < _HELD_OUT_SHARE
    by_age = np.argsort(features[:, 0], kind="stable")
    bands = np.array_split(by_age[~held_out[by_age]], hospitals)
    return Study(
        tuple(Patients(features[band], sexes[band], outcomes[band]) for band in bands),
        Patients(features[held_out], sexes[held_out], outcomes[held_out]),
    )


@dataclass(frozen=True, slots=True)
class Quality:
    """How well predictions separate outcomes: share right at one half, area under the ROC curve."""

    accuracy: float
    auc: float


def judge(outcomes: NDArray[np.int64], predictions: NDArray[np.float64]) -> Quality:
    """Compare predicted probabilities with what happened."""
    from sklearn.metrics import roc_auc_score

    return Quality(
        float(np.mean((predictions > 0.5) == (outcomes == 1))), float(roc_auc_score(outcomes, predictions))
    )


def judge_pooled(study: Study) -> Quality:
    """Train scikit-learn's LogisticRegression on the pooled rows, and judge it on those held out."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pooled = study.pooled()
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(pooled.inputs(), pooled.outcomes)
    return judge(study.held_out.outcomes, model.predict_proba(study.held_out.inputs())[:, 1])

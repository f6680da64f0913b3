"""Models of several groups predict by vote: what each takes of a row, and whom one of them can move."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from heliosdb.domain import bounds
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.state import freeze
from heliosdb.scoring import soundness
from heliosdb.scoring.ballot import Ballot, Candidate, hold_ballot, labels_of
from heliosdb.scoring.rows import encode_rows
from heliosdb.scoring.session import make_version

NUMBERS = Encoding((ColumnEncoding("age"), ColumnEncoding("smoker", ColumnKind.BOOLEAN)))


def linear(intercept: float, *slopes: float) -> Prediction:
    zeros = [0.0] * len(slopes)
    numbers = {"intercept": intercept, "slopes": list(slopes), "fills": zeros, "shifts": zeros}
    return Prediction("linear", {**numbers, "link": "logistic", "target_mean": 0.0, "target_scale": 1.0})


def candidates(*intercepts: float) -> list[Candidate]:
    """One model for each, of two classes that nobody names."""
    return [
        Candidate(group, linear(intercept, 1.0, 0.0), NUMBERS, ("0", "1"))
        for group, intercept in enumerate(intercepts, 1)
    ]


def predict(ballot: Ballot, rows: list[list[float]]) -> np.ndarray:
    content = {**ballot.prediction.content, "kind": "votes"}
    return make_version(content, freeze(ballot.prediction.arrays), ballot.encoding).predict(np.array(rows))


def test_a_class_has_the_share_of_the_models_that_name_it() -> None:
    ballot = hold_ballot(candidates(-1.0, -2.0, -3.0, -4.0, -5.0))

    shares = predict(ballot, [[0.5, 0.0], [2.5, 1.0], [9.0, 0.0], [math.nan, math.nan]])

    assert shares * 5 == pytest.approx([0.0, 2.0, 5.0, 0.0])
    assert ballot.voting == (1, 2, 3, 4, 5)
    assert ballot.encoding.classes == ()
    assert ballot.encoding.columns[1].kind is ColumnKind.BOOLEAN


def test_one_model_changes_one_vote_whatever_it_knows_of_levels_and_classes() -> None:
    def of(group: int, levels: tuple[str, ...], slopes: tuple[float, ...], **more: bool) -> Candidate:
        column = ColumnEncoding("ward", ColumnKind.CATEGORY, "indicators", levels, **more)
        return Candidate(group, linear(-0.5, *slopes), Encoding((column,)), ("no", "yes"))

    honest = [
        of(1, ("a", "b"), (1.0,)),
        of(2, ("a", "c"), (1.0,)),
        of(3, ("b", "c"), (1.0,), other_level=False),
    ]
    hostile = replace(
        of(4, ("a", "aa", "d"), (9.0, 9.0, 9.0, 9.0), null_level=True, other_level=True),
        labels=("maybe", "yes"),
    )
    before, after = hold_ballot(honest), hold_ballot([*honest, hostile])

    assert after.encoding.columns[0].level_names == ("a", "aa", "b", "c", "d", "NULL", "other")
    assert after.encoding.classes == ("maybe", "no", "yes")
    for value in ("a", "b", "c", "d", None, "else"):
        counts = [predict(one, [[_slot(one, value)]])[0] * len(one.voting) for one in (before, after)]
        yes_before, (maybe, no, yes) = counts
        honest_no = 3 - yes_before
        assert (yes - yes_before, maybe, no - honest_no) in {(1, 0, 0), (0, 1, 0)}, value


def _slot(ballot: Ballot, value: str | None) -> float:
    """As the server hands a text over."""
    column = ballot.encoding.columns[0]
    if value is None:
        return float(len(column.levels)) if column.null_level else math.nan
    if value in column.levels:
        return float(column.levels.index(value))
    return float(len(column.level_names) - 1) if column.other_level else math.nan


def test_a_model_takes_a_row_as_it_would_by_itself() -> None:
    rng = np.random.default_rng(5)
    encodings = [
        Encoding(
            (
                ColumnEncoding("age", form="log1p", missing_indicator=True),
                ColumnEncoding("ward", ColumnKind.CATEGORY, "indicators", levels, null_level=True),
                ColumnEncoding("pulse", ColumnKind.ARRAY, elements=2),
            )
        )
        for levels in (("a", "b"), ("b", "c", "d"), ("a", "d"))
    ]
    models = [linear(float(rng.normal()), *rng.normal(size=len(one.inputs)).tolist()) for one in encodings]
    ballot = hold_ballot(
        [
            Candidate(n, model, one, ("0", "1"))
            for n, (model, one) in enumerate(zip(models, encodings, strict=True), 1)
        ]
    )
    texts = ["a", "b", "c", "d", None]
    rows = [(age, text, 0.3, -1.0) for age, text in product([0.0, 2.0, -3.0, math.nan], texts)]

    found = predict(
        ballot,
        [
            [
                age,
                math.nan
                if text is None and not ballot.encoding.columns[1].null_level
                else _place(ballot, text),
                *rest,
            ]
            for age, text, *rest in rows
        ],
    )

    votes = np.zeros(len(rows))
    for model, encoding in zip(models, encodings, strict=True):
        own = encoding.columns[1]
        slots = [[age, _own_place(own, text), *rest] for age, text, *rest in rows]
        shares = make_version({**model.content, "kind": "linear"}, {}, encoding).predict(np.array(slots))
        assert encode_rows(np.array(slots), encoding).shape == (len(rows), len(encoding.inputs))
        votes += shares > 0.5
    assert found * 3 == pytest.approx(votes)


def _place(ballot: Ballot, text: str | None) -> float:
    return _own_place(ballot.encoding.columns[1], text)


def _own_place(column: ColumnEncoding, text: str | None) -> float:
    if text is None:
        return float(len(column.levels))
    return float(column.levels.index(text)) if text in column.levels else math.nan


def test_several_classes_and_equal_votes() -> None:
    def softmax(best: int) -> Prediction:
        intercepts = [1.0 if place == best else 0.0 for place in range(3)]
        numbers = {"intercepts": intercepts, "slopes": [[0.0]] * 3, "fills": [0.0], "shifts": [0.0]}
        return Prediction("softmax_linear", {**numbers, "link": "softmax"})

    column = Encoding((ColumnEncoding("age"),))
    models = [Candidate(n, softmax(best), column, ("a", "b", "c")) for n, best in enumerate([2, 1, 1, 2], 1)]

    shares = predict(hold_ballot(models, ("a", "b", "c")), [[1.0]])

    assert shares * 4 == pytest.approx(np.array([[0.0, 2.0, 2.0]]))
    equal = Prediction("softmax_linear", {**softmax(0).content, "intercepts": [0.0, 0.0, 0.0]})
    same = [Candidate(n, equal, column, ("a", "b", "c")) for n in (1, 2, 3)]
    assert predict(hold_ballot(same, ("a", "b", "c")), [[1.0]])[0].tolist() == [1.0, 0.0, 0.0]


def test_who_has_other_columns_than_most_does_not_vote() -> None:
    other = Candidate(
        2,
        linear(9.0, 1.0, 0.0),
        Encoding((ColumnEncoding("age", ColumnKind.TIME), NUMBERS.columns[1])),
        ("0", "1"),
    )
    first, _, *others = candidates(-1.0, 0.0, -1.0, -1.0, -1.0)

    ballot = hold_ballot([first, other, *others])

    assert ballot.voting == (1, 3, 4, 5)
    with pytest.raises(FederatedError, match="2 of the groups have a model of the same columns"):
        hold_ballot([first, other, others[0]])
    with pytest.raises(FederatedError, match="0 of the groups"):
        hold_ballot([])


def test_only_classes_are_voted_on() -> None:
    assert labels_of(linear(0.0, 1.0), ()) == ("0", "1")
    with pytest.raises(FederatedError, match="predicts a number"):
        labels_of(Prediction("linear", {"link": "identity"}), ())


def test_a_delivered_version_is_looked_through_model_by_model() -> None:
    ballot = hold_ballot(candidates(-1.0, -2.0, -3.0))
    sound = {**ballot.prediction.content, "kind": "votes"}

    def fault(**changed: object) -> str | None:
        return soundness.find_fault(
            lambda: soundness.check_version({**sound, **changed}, {}, ballot.encoding)
        )

    def with_voter(**changed: object) -> list[object]:
        return [{**sound["voters"][0], **changed}, *sound["voters"][1:]]

    assert fault() is None
    assert fault(votes=4) is not None
    assert fault(labels=3) is not None
    assert fault(margin=None) is not None
    assert fault(voters=sound["voters"][:2], votes=2) is not None
    assert fault(voters=with_voter(kind="votes")) is not None
    assert fault(voters=with_voter(places=[0, 2])) is not None
    assert fault(voters=with_voter(places=[0])) is not None
    assert fault(voters=with_voter(levels=[None])) is not None
    assert fault(voters=with_voter(levels=[[0], None])) is not None
    assert fault(voters=with_voter(slopes=[1.0])) is not None
    assert fault(voters=with_voter(more=1)) is not None


def test_one_model_s_many_levels_and_classes_forbid_no_delivery() -> None:
    def of(group: int, levels: int, classes: int) -> Candidate:
        names = tuple(f"{group} {number:04}" for number in range(levels))
        column = ColumnEncoding("ward", ColumnKind.CATEGORY, "index", names)
        numbers = {
            "intercepts": [0.0] * classes,
            "slopes": [[0.0]] * classes,
            "fills": [0.0],
            "shifts": [0.0],
        }
        labels = tuple(f"{group} {number:03}" for number in range(classes))
        return Candidate(
            group,
            Prediction("softmax_linear", {**numbers, "link": "softmax"}),
            Encoding((column,), labels),
            labels,
        )

    most = int(bounds.CLASSES.most)
    ballot = hold_ballot([of(1, 1_000, most), of(2, 2, 2), of(3, 2, 2)])
    content = {**ballot.prediction.content, "kind": "votes", "classes": list(ballot.encoding.classes)}

    def fault(encoding: Encoding) -> str | None:
        return soundness.find_fault(lambda: soundness.check_version(content, {}, encoding))

    assert len(ballot.encoding.columns[0].levels) == 1_004
    assert len(ballot.encoding.classes) == most + 4
    assert fault(ballot.encoding) is None
    many = replace(ballot.encoding.columns[0], levels=tuple(map(str, range(3_001))))
    assert fault(replace(ballot.encoding, columns=(many,))) is not None


def test_of_each_model_that_alone_is_kept_which_computes_it() -> None:
    trained = [
        replace(one, prediction=replace(one.prediction, content={**one.prediction.content, **figures}))
        for one in candidates(-1.0, -2.0, -3.0)
        for figures in [{"coefficients": {"scores": [{"std_error": [1.0]}]}}]
    ]

    ballot = hold_ballot(trained)

    assert ballot.prediction.content == hold_ballot(candidates(-1.0, -2.0, -3.0)).prediction.content
    soundness.check_version({**ballot.prediction.content, "kind": "votes"}, {}, ballot.encoding)


@pytest.mark.parametrize(
    ("voters", "declared", "margin"),
    [(3, (), 1), (4, (), 1), (5, (), 2), (4, ("0", "1"), 2), (5, ("0", "1"), 2)],
)
def test_a_class_that_hostile_nodes_bring_is_reckoned_with_unless_classes_are_declared(
    voters: int, declared: tuple[str, ...], margin: int
) -> None:
    ballot = hold_ballot(candidates(*range(1, voters + 1)), declared)
    assert ballot.prediction.content["margin"] == margin


def test_a_class_that_comes_first_wins_with_half_of_the_votes() -> None:
    honest = [replace(one, labels=("ill", "well")) for one in candidates(1.0, 2.0, 3.0, 4.0)]
    assert hold_ballot(honest).prediction.content["margin"] == 1
    bought = [replace(one, labels=("fine", "well")) for one in honest[:2]] + honest[2:]
    assert hold_ballot(bought).encoding.classes[0] == "fine"

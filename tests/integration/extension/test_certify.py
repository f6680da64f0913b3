"""What is certified of predictions by vote, beside every way in which so many votes can be others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import combinations_with_replacement, product
from typing import Any

import psycopg
import pytest
from psycopg import errors

from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.prediction import Prediction
from heliosdb.scoring.ballot import Ballot, Candidate, hold_ballot
from tests.support.cluster import Cluster
from tests.support.publication import publish_prediction

Counts = tuple[int, ...]


def winner(votes: Sequence[int]) -> int:
    return max(range(len(votes)), key=lambda place: (votes[place], -place))


def moved(votes: Counts) -> set[Counts]:
    """All that one node can make of the votes: one of them is another, or is not given any more."""
    found = set()
    for giver in (place for place, count in enumerate(votes) if count):
        left = [count - (place == giver) for place, count in enumerate(votes)]
        found.add(tuple(left))
        found |= {
            tuple(count + (place == taker) for place, count in enumerate(left)) for taker in range(len(votes))
        }
    return found


def withstood(votes: Counts) -> int:
    """How many changed votes in a row never have another class win, by looking at all of them."""
    reached, count = {votes}, 0
    while count <= sum(votes):
        reached = {other for one in reached for other in moved(one)}
        if any(winner(one) != winner(votes) for one in reached):
            return count
        count += 1
    return count


def test_as_many_as_are_certified_and_no_more_are_withstood(catalog: psycopg.Connection) -> None:
    cases = [
        votes for classes in (2, 3, 4) for votes in product(range(8), repeat=classes) if 1 <= sum(votes) <= 7
    ]
    rows = catalog.execute(
        "SELECT federated._certified_nodes(string_to_array(v, ',')::integer[]) FROM unnest(%s::text[])"
        " WITH ORDINALITY AS u (v, place) ORDER BY u.place",
        [[",".join(map(str, votes)) for votes in cases]],
    ).fetchall()

    wrong = [(votes, got) for votes, (got,) in zip(cases, rows, strict=True) if got != withstood(votes)]
    assert wrong == []
    assert len(cases) > 300


KINDS = (ColumnKind.NUMBER, ColumnKind.CATEGORY, ColumnKind.TIME)
Group = tuple[int, int] | None
"""The kind of its model's column and its vote; None of a group without a model."""
GROUPS: tuple[Group, ...] = (None, *product(range(len(KINDS)), (0, 1)))


@cache
def held(groups: tuple[Group, ...]) -> tuple[Counts, int] | None:
    """The votes of each class, and how many groups cannot have had others vote; None where there is no version.
    groups: sorted, since it is their numbers alone that count."""
    candidates = [
        Candidate(place, _from(1), Encoding((ColumnEncoding("x", KINDS[group[0]]),)), ("0", "1"))
        for place, group in enumerate(groups)
        if group is not None
    ]
    try:
        ballot = hold_ballot(candidates)
    except FederatedError:
        return None
    votes = [group[1] for group in (groups[place] for place in ballot.voting) if group is not None]
    return (votes.count(0), votes.count(1)), ballot.prediction.content["margin"]


def _sorted(groups: Iterable[Group]) -> tuple[Group, ...]:
    return tuple(sorted(groups, key=GROUPS.index))


def with_others(groups: tuple[Group, ...]) -> set[tuple[Group, ...]]:
    """All that one group can make of it."""
    return {
        _sorted((*groups[:place], other, *groups[place + 1 :]))
        for place in range(len(groups))
        for other in GROUPS
    }


@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_nodes_whose_columns_are_of_other_kinds_change_no_certified_prediction(
    catalog: psycopg.Connection, count: int
) -> None:
    cases = [(one, found) for one in combinations_with_replacement(GROUPS, count) if (found := held(one))]
    margins = catalog.execute(
        "SELECT federated._certified_nodes(string_to_array(v, ',')::integer[]) FROM unnest(%s::text[])"
        " WITH ORDINALITY AS u (v, place) ORDER BY u.place",
        [[",".join(map(str, votes)) for _, (votes, _) in cases]],
    ).fetchall()

    lowered = 0
    for (groups, (votes, stored)), (margin,) in zip(cases, margins, strict=True):
        lowered += stored < margin
        reached = {groups}
        for _ in range(min(margin, stored)):
            reached = {other for one in reached for other in with_others(one)}
        others = {winner(found[0]) for one in reached if (found := held(one)) is not None}
        assert others == {winner(votes)}, (groups, margin, stored)
    assert count < 5 or lowered > 0


@pytest.fixture
def model(cluster: Cluster, catalog: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A model of one feature by the vote of five, which say yes from 1, 2, 3, 4 and 5 on."""
    catalog.execute("CALL federated.execute('CREATE FEDERATED WORKSPACE ward')")
    catalog.execute(
        "CALL federated.execute($$CREATE FEDERATED MODEL stay IN WORKSPACE ward WITH (algorithm ="
        " 'logistic_regression', features = ['days'], target = 'long', target_classes = ['no', 'yes'])$$)"
    )
    ballot = _ballot()
    publish_prediction(cluster, catalog.info.dbname, "stay", ballot.prediction, ballot.encoding)
    yield catalog


def _ballot(*texts: int) -> Ballot:
    """Of five groups. texts: of which groups the column is a category, which is no number."""
    text = ColumnEncoding("days", ColumnKind.CATEGORY, "indicators", ("a", "b"))
    labels = ("no", "yes")
    return hold_ballot(
        [
            Candidate(n, _from(n), Encoding((text if n in texts else ColumnEncoding("days"),)), labels)
            for n in range(1, 6)
        ],
        labels,
    )


def _from(days: int) -> Prediction:
    numbers: dict[str, Any] = {"intercept": -days + 0.5, "slopes": [1.0], "fills": [0.0], "shifts": [0.0]}
    return Prediction("linear", {**numbers, "link": "logistic", "target_mean": 0.0, "target_scale": 1.0})


def test_a_row_s_prediction_and_how_many_nodes_cannot_change_it(model: psycopg.Connection) -> None:
    found = model.execute(
        "SELECT d, c.* FROM unnest('{0,1,2,3,4,5}'::integer[]) AS d,"
        " LATERAL federated_certify('stay', jsonb_build_object('days', d)) AS c ORDER BY d"
    ).fetchall()

    assert found == [
        (0, "no", 5, "yes", 0, 5, 2),
        (1, "no", 4, "yes", 1, 5, 1),
        (2, "no", 3, "yes", 2, 5, 0),
        (3, "yes", 3, "no", 2, 5, 0),
        (4, "yes", 4, "no", 1, 5, 1),
        (5, "yes", 5, "no", 0, 5, 2),
    ]
    assert model.execute("SELECT (federated_certify('stay@1', '{}')).hostile_nodes").fetchone() == (2,)


def test_of_columns_of_other_kinds_one_node_may_have_decided(
    cluster: Cluster, model: psycopg.Connection
) -> None:
    """Three groups' column is a number: with one node less two are left, and two of the other kind."""
    ballot = _ballot(4, 5)
    publish_prediction(cluster, model.info.dbname, "stay", ballot.prediction, ballot.encoding)

    found = model.execute("SELECT (c).* FROM federated_certify('stay', '{\"days\": 9}') AS c").fetchone()

    assert found == ("yes", 3, "no", 0, 3, 0)


def test_every_form_of_a_prediction_says_the_share_of_the_votes(model: psycopg.Connection) -> None:
    (by_name, by_json, by_row, label, shares) = (
        model.execute(
            "SELECT federated_model.stay(days => 4), federated_predict('stay', '{\"days\": 4}'),"
            " predict('stay', ARRAY[4.0]::float8[]), federated_predict_class('stay', '{\"days\": 4}'),"
            " federated_predict_proba('stay', '{\"days\": 4}')"
        ).fetchone()
        or [None] * 5
    )

    assert [by_name, by_json, by_row, label] == [0.8, 0.8, 0.8, "yes"]
    assert shares == {"no": pytest.approx(0.2), "yes": 0.8}
    batch = model.execute(
        "SELECT days, prediction FROM federated_predict_batch('stay', 'SELECT 2.0::float8 AS days')"
        " AS b (days float8, prediction float8)"
    ).fetchall()
    assert batch == [(2.0, 0.4)]


def test_what_does_not_predict_by_vote_is_not_certified(cluster: Cluster, model: psycopg.Connection) -> None:
    publish_prediction(cluster, model.info.dbname, "stay", _from(3))

    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="does not predict by vote") as refused:
        model.execute("SELECT federated_certify('stay', '{}')")
    assert "voting_groups = 5" in (refused.value.diag.message_hint or "")
    assert model.execute("SELECT (federated_certify('stay@1', '{}')).voters").fetchone() == (5,)
    with pytest.raises(errors.UndefinedObject):
        model.execute("SELECT federated_certify('nobody', '{}')")
    with pytest.raises(errors.UndefinedObject):
        model.execute("SELECT federated_certify('stay@7', '{}')")


def test_analysts_certify_and_nobody_else(model: psycopg.Connection) -> None:
    model.execute("SET ROLE federated_analyst")
    assert model.execute("SELECT (federated_certify('stay', '{\"days\": 9}')).prediction").fetchone() == (
        "yes",
    )
    for role in ("federated_auditor", "federated_daemon"):
        model.execute("RESET ROLE")
        model.execute(f"SET ROLE {role}")  # type: ignore[arg-type]
        with pytest.raises(errors.InsufficientPrivilege):
            model.execute("SELECT federated_certify('stay', '{}')")
    model.execute("RESET ROLE")


def test_how_much_of_the_accuracy_is_certified_on_rows_of_the_caller_s_own(model: psycopg.Connection) -> None:
    model.execute("CREATE TABLE stays (id serial, days float8, long text)")
    model.execute(
        "INSERT INTO stays (days, long) VALUES (0, 'no'), (1, 'yes'), (2, 'no'), (4, 'yes'), (5, 'yes'), (5, NULL)"
    )

    found = model.execute(
        "SELECT * FROM federated_certified_accuracy('stay', 'SELECT * FROM stays -- all')"
    ).fetchall()

    assert found == [(0, 1.0, 0.8, 5), (1, 0.8, 0.6, 5), (2, 0.4, 0.4, 5)]
    for query, error in (
        ("SELECT days FROM stays", errors.UndefinedColumn),
        ("SELECT long FROM stays", errors.UndefinedColumn),
        ("SELECT * FROM stays WHERE long IS NULL", errors.NoDataFound),
        ("SELECT 1; SELECT 2", psycopg.Error),
        (None, errors.NullValueNotAllowed),
    ):
        with pytest.raises(error):
            model.execute("SELECT * FROM federated_certified_accuracy('stay', %s)", [query])


def test_targets_are_named_as_tables_have_them(catalog: psycopg.Connection) -> None:
    cases = [
        ("1", "true", True),
        ("0", "true", False),
        ("0", "false", True),
        ("true", "true", True),
        ("2", "2.0", True),
        ("yes", '"yes"', True),
        ("yes", '"no"', False),
        ("yes", "1", False),
        ("1", "null", None),
    ]
    for label, given, expected in cases:
        found = catalog.execute("SELECT federated._is_named(%s, %s::jsonb)", [label, given]).fetchone()
        assert found == (expected,), (label, given)


def test_a_sealed_version_is_certified_and_shows_no_model(
    cluster: Cluster, model: psycopg.Connection
) -> None:
    model.execute("CALL federated.execute($$ALTER FEDERATED MODEL stay SET (prediction = 'sealed')$$)")
    ballot = _ballot()
    publish_prediction(cluster, model.info.dbname, "stay", ballot.prediction, ballot.encoding)

    found = model.execute("SELECT (federated_certify('stay@2', '{\"days\": 4}')).*").fetchone()

    assert found == ("yes", 4, "no", 1, 5, 1)
    [(kept,)] = model.execute("SELECT prediction FROM federated.version WHERE version = 2").fetchall()
    assert kept["sealed"] is True
    assert "voters" not in kept


def test_a_delivery_s_bound_of_levels_is_each_voter_s(catalog: psycopg.Connection) -> None:
    check = (
        "SELECT federated._check_encoding('{ward}', '{false}', jsonb_build_object('votes', %s::integer, 'encoding',"
        " jsonb_build_object('columns', jsonb_build_array(jsonb_build_object('column', 'ward', 'kind', 'category',"
        " 'form', 'index', 'levels', (SELECT jsonb_agg(n::text) FROM generate_series(1, %s) AS n))))))"
    )
    catalog.execute(check, [3, 3000])
    for votes, levels in ((3, 3001), (None, 1001)):
        with pytest.raises(errors.InvalidParameterValue, match='the encoding of feature "ward"'):
            catalog.execute(check, [votes, levels])

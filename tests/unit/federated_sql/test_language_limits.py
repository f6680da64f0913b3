"""Long, deep and pathological texts are changed or left alone, without an error, in time that grows with them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from federated_sql import rewrite

CALL = "federated_predict('m', a => 1)"
SELECT = f"SELECT {CALL}"
EVALUATE = "federated_evaluate('m') AS (a FLOAT)"

TEXTS: dict[str, Callable[[int], str]] = {
    "parentheses that stay open": lambda n: SELECT + "(" * n,
    "parentheses around a call": lambda n: "SELECT " + "(" * n + CALL + ")" * n,
    "quotes": lambda n: SELECT + "'" * n,
    "escapes": lambda n: SELECT + ", E'\\''" * n,
    "double quotes": lambda n: SELECT + '"' * n,
    "quoted names": lambda n: SELECT + ', "a""b"' * n,
    "dollar quotes": lambda n: SELECT + "$a$" * n,
    "dollar quotes of different tags": lambda n: SELECT + "".join(f"$a{i}$" for i in range(n)),
    "comments that stay open": lambda n: SELECT + "/*" * n,
    "comments within comments": lambda n: SELECT + "/*" * n + "*/" * n,
    "comments side by side": lambda n: SELECT + "/**/--\n" * n,
    "semicolons": lambda n: SELECT + ";" * n,
    "calls in a list": lambda n: "SELECT " + ", ".join([CALL] * n),
    "calls in statements": lambda n: ";".join([SELECT] * n),
    "calls in calls": lambda n: "SELECT " + "federated_predict(n, a => " * n + "1" + ")" * n,
    "aliases in selects": lambda n: f"SELECT {CALL} AS p FROM (" * n + "SELECT 1" + ") AS t WHERE p > 1" * n,
    "aliases in conditions": lambda n: (
        f"SELECT {CALL} AS p FROM t WHERE p > (" * n + "1" + ")" * n
    ),
    "column lists": lambda n: "SELECT " + ", ".join([EVALUATE] * n),
    "column lists within": lambda n: f"SELECT {EVALUATE} FROM (" * n + "SELECT 1" + ") AS t" * n,
    "lists of columns": lambda n: "SELECT federated_evaluate('m') AS (" + "a FLOAT, " * n + "b INT)",
    "the word": lambda n: "SELECT " + ", ".join(["federated x"] * n),
    "the name": lambda n: "federated_predict " * n,
    "sums": lambda n: SELECT + " + 1" * n,
    "negations": lambda n: f"SELECT {CALL} AS p FROM t WHERE " + "NOT " * n + "p",
    "joins": lambda n: f"SELECT {CALL} AS p FROM t0" + "".join(f" JOIN t{i} ON true" for i in range(1, n)) + " WHERE p > 1",
    "unions": lambda n: " UNION ALL ".join([SELECT] * n),
    "cases": lambda n: SELECT + ", CASE WHEN true THEN " * n + "1" + " END" * n,
    "letters that are not ASCII": lambda n: SELECT + ", 'ü', größe" * n,
    "features": lambda n: "SELECT federated_predict(n" + "".join(f", f{i} => $1" for i in range(n)) + ")",
    "a federated statement": lambda n: "CREATE FEDERATED MODEL m WITH (" + "a = 1, " * n + ")",
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("count", [3, 40, 160, 640])
def test_nothing_is_raised_whatever_the_depth(name: str, count: int) -> None:
    rewritten = rewrite(TEXTS[name](count))
    assert rewritten is None or rewritten.text != rewritten.original


@pytest.mark.parametrize(
    "name", ["parentheses that stay open", "semicolons", "calls in a list", "the word", "features"]
)
def test_nothing_is_raised_up_to_a_mebibyte_and_beyond(name: str) -> None:
    for size in ((1 << 20) - 1000, 1 << 21):
        text = TEXTS[name](int(size / (len(TEXTS[name](200)) / 200)))
        assert rewrite(text) is None or name == "semicolons"
    assert rewrite(text) is None


def seconds(text: str) -> float:
    times = []
    for _ in range(3):
        started = time.thread_time()
        rewrite(text)
        times.append(time.thread_time() - started)
    return min(times)


@pytest.mark.parametrize("name", TEXTS)
def test_a_long_text_takes_time_in_proportion(name: str) -> None:
    """Measured against a text of an eighth of its length: 64 times the time would be quadratic.

    Half of that leaves room for a busy machine, and the constant is for texts that take no time at all.
    """
    unit = len(TEXTS[name](200)) / 200
    short, long = (TEXTS[name](max(int(size / unit), 1)) for size in (100_000 / 8, 100_000))
    assert seconds(long) < 32 * seconds(short) + 0.05

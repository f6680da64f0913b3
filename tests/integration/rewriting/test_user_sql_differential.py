"""Random statements: whatever the server accepts as it is typed gives the same rows through the proxy."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import psycopg
import pytest

from tests.support.cluster import Cluster

STATEMENTS = 200
TABLES = {
    "customers": ("id", "x", "region"),
    "with_number": ("id", "x", "p"),
    "with_text": ("id", "x", "p"),
    "regions": ("region", "name"),
}
ALIASES = ("p", "q", "region", "x", "customers")


class Maker:
    """Makes SELECTs with predictions, in the shapes that a scope can have; many of them are valid."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._count = 0

    def select(self, depth: int = 2, around: tuple[str, ...] = ()) -> str:
        source, columns = self._from(depth, around)
        alias = self._random.choice(ALIASES)
        items = [f"federated_predict('m', x => {self._number(columns)}) AS {alias}"]
        items += self._random.sample(columns, k=min(2, len(columns)))
        if depth and self._random.random() < 0.2:
            items.append(f"(SELECT max(s.{alias}) FROM ({self.select(depth - 1, columns)}) AS s)")
        self._random.shuffle(items)
        where = self._condition((alias, alias, *columns), depth)
        end = self._random.choice(("", "", f" ORDER BY {self._random.randint(1, len(items))}"))
        group = (
            f" GROUP BY {', '.join(map(str, range(1, len(items) + 1)))}"
            if self._random.random() < 0.15
            else ""
        )
        return f"SELECT {', '.join(items)}{source} WHERE {where}{group}{end}"

    def _from(self, depth: int, around: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        if around and self._random.random() < 0.1:
            return "", around
        first, columns = self._item(depth, ())
        if self._random.random() < 0.4:
            return f" FROM {first}", columns
        lateral = self._random.random() < 0.4
        second, more = self._item(depth, columns if lateral else ())
        word = "LATERAL " if lateral and second.startswith("(") else ""
        if self._random.random() < 0.3:
            first, second, columns = self._using()
            return f" FROM {first} JOIN {second} USING ({columns[0]})", columns
        joined = self._random.choice(
            (f", {word}{second}", f" JOIN {word}{second} ON true", f" LEFT JOIN {word}{second} ON true")
        )
        return f" FROM {first}{joined}", columns + more

    def _using(self) -> tuple[str, str, tuple[str, ...]]:
        """Return two tables with a column of the same name, and that with the columns of one of them."""
        first, second, column = self._random.choice(
            (
                ("customers", "regions", "region"),
                ("customers", "with_text", "id"),
                ("with_number", "with_text", "id"),
            )
        )
        self._count += 2
        one, other = f"t{self._count - 1}", f"t{self._count}"
        columns = (column, *(f"{one}.{each}" for each in TABLES[first]))
        return f"{first} AS {one}", f"{second} AS {other}", columns

    def _item(self, depth: int, left: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        self._count += 1
        name = f"t{self._count}"
        if depth and self._random.random() < 0.3:
            inner = self.select(depth - 1, left)
            return f"({inner}) AS {name}", (f"{name}.p",) if " AS p" in inner.split(" FROM ")[0] else ()
        table = self._random.choice(list(TABLES))
        alias = self._random.choice((name, name, table))
        return f"{table} AS {alias}" if alias != table else table, tuple(
            f"{alias}.{column}" for column in TABLES[table]
        )

    def _number(self, columns: tuple[str, ...]) -> str:
        numbers = [one for one in columns if one.rpartition(".")[2] in ("x", "id", "region")]
        return self._random.choice([*numbers, "0.5"])

    def _condition(self, names: tuple[str, ...], depth: int) -> str:
        kind = self._random.random()
        name = self._random.choice(names)
        if kind < 0.2:
            return f"({self._condition(names, depth)} {self._random.choice(('AND', 'OR'))} {self._condition(names, depth)})"
        if kind < 0.3:
            return f"NOT {self._condition(names, depth)}"
        if kind < 0.45 and depth:
            return f"EXISTS ({self.select(depth - 1, names[2:])})"
        if kind < 0.6:
            return f"{name} IS NOT NULL"
        if kind < 0.75:
            return f"{name}::text < '1'"
        return f"{name} > {self._random.choice(('0.4', '0', '1'))}"


@pytest.mark.parametrize("seed", range(3))
def test_what_was_valid_means_the_same(
    cluster: Cluster, stand_ins: str, through: Callable[[str], psycopg.Connection], seed: int
) -> None:
    valid = changed = 0
    with cluster.connect(stand_ins) as direct, through(stand_ins) as proxied:
        for number in range(STATEMENTS):
            typed = Maker(1000 * seed + number).select()
            known = typed.replace("federated_predict('m', ", "federated_model.m(")
            try:
                expected = Counter(direct.execute(known).fetchall())
            except psycopg.Error as error:
                try:
                    proxied.execute(typed)
                    changed += 1
                except psycopg.Error as other:
                    assert other.sqlstate is not None
                    assert error.sqlstate is not None
                continue
            valid += 1
            assert Counter(proxied.execute(typed).fetchall()) == expected, typed
    assert valid > STATEMENTS / 10
    assert changed > STATEMENTS / 10

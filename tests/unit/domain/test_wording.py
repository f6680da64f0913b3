"""Texts say "1 node" and "2 nodes"."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from heliosdb.domain.wording import counted

REPOSITORY = Path(__file__).parents[3]
PLURALS = (
    "nodes rows rounds updates values columns features folds trials runs days numbers levels parameters"
    " subjects versions datasets models seconds elements classes entries statements fields events"
)
PLURAL = re.compile(rf" (more |past |training |data )?({'|'.join(PLURALS.split())})\b")
LIKELY = re.compile("}" + PLURAL.pattern)
# What is never one, or is read by a program.
EXEMPT = {
    "node/disclosure.py": "folds",
    "node/allowance.py": "rows and numbers that do not fit into memory",
    "exchange/pmml_trees.py": "nodes of trees that are too large",
    "exchange/sql_trees.py": "nodes of trees that are too large",
    "extension/series.py": "runs of a series",
    "extension/plan_lines.py": "runs of a series",
    "extension/models.py": "features that are too many",
    "parts/images.py": "numbers and entries that are too many, or of an image",
    "parts/series.py": "numbers of a row that are too many",
    "parts/networks.py": "parameters that are too many, classes of a softmax",
    "algorithms/answers.py": "rows that are no number of rows",
    "algorithms/classes.py": "about so many subjects",
    "algorithms/curvature.py": "rows that are no number of rows",
    "algorithms/neural.py": "classes of a target",
    "algorithms/report_figures.py": "rows that are no number of rows",
    "algorithms/trees/algorithm.py": "classes of a target",
    "algorithms/trees/work.py": "classes of a target",
    "algorithms/vocabulary.py": "about so many subjects, five at least",
    "cli/simulation/command.py": "values that are too many",
    "cli/simulation/report.py": "a spread of rows",
    "coordinator/aggregation_functions.py": "values that are too many",
    "domain/round.py": "rounds, of which one has a text of its own",
    "scoring/explanations.py": "numbers that are too many",
    "sdk/columns.py": "an interval as PostgreSQL reads it",
}


@pytest.mark.parametrize(
    ("number", "nouns", "text"),
    [
        (0, ("node",), "0 nodes"),
        (1, ("node",), "1 node"),
        (2, ("node",), "2 nodes"),
        (1, ("class", "classes"), "1 class"),
        (3, ("class", "classes"), "3 classes"),
        (1.0, ("row",), "1 row"),
        (2.5, ("second",), "2.5 seconds"),
    ],
)
def test_one_of_a_kind_is_singular(number: float, nouns: tuple[str, ...], text: str) -> None:
    assert counted(number, *nouns) == text


def test_no_text_counts_what_may_be_one_in_the_plural() -> None:
    found = [
        f"{path.relative_to(root)}:{line}: {text}"
        for root in (REPOSITORY / "src" / "heliosdb", REPOSITORY / "parser")
        for path in sorted(root.rglob("*.py"))
        if str(path.relative_to(root)) not in EXEMPT
        for line, text in _plurals(path)
    ]

    assert found == []


@pytest.mark.parametrize("file", EXEMPT)
def test_what_is_exempt_is_there(file: str) -> None:
    assert list(_plurals(REPOSITORY / "src" / "heliosdb" / file))


def test_a_plural_behind_a_number_is_found() -> None:
    assert [PLURAL.match(text) is not None for text in (" nodes were asked", " past rounds", " node", ": nodes")] == [
        True, True, False, False,
    ]  # fmt: skip


def _plurals(path: Path) -> Iterator[tuple[int, str]]:
    source = path.read_text(encoding="utf-8")
    # Most modules have none, and to parse them all takes seconds.
    for node in ast.walk(ast.parse(source)) if LIKELY.search(source) else ():
        if not isinstance(node, ast.JoinedStr):
            continue
        for before, value, text in zip([None, *node.values], node.values, node.values[1:], strict=False):
            if not isinstance(value, ast.FormattedValue) or not isinstance(text, ast.Constant):
                continue
            names_option = isinstance(before, ast.Constant) and str(before.value).endswith(" = ")
            if PLURAL.match(str(text.value)) and not names_option and not _is_constant(value.value):
                yield node.lineno, ast.unparse(node)


def _is_constant(value: ast.expr) -> bool:
    """Whether it is a name or an attribute in capitals, which is not 1."""
    name = value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else ""
    return name.isupper()

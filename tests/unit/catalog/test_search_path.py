"""What is run while a schema may be in the search_path where others create functions calls none of theirs."""

from __future__ import annotations

import re

import pytest

from heliosdb.catalog.connection import Statement, load_statements

# PostgreSQL takes the function whose parameters fit best, wherever in the search_path it is.
ENTERING = [
    ("heliosdb.catalog", "api.sql", "find_functions"),
    ("heliosdb.catalog", "evidence.sql", "find_extension_schema"),
    ("heliosdb.catalog", "overview.sql", "enter_extension_schema"),
    ("heliosdb.catalog", "participant_view.sql", "find_extension_schema"),
    ("heliosdb.sdk", "queries.sql", "find_extension"),
]
# Run in whatever search_path the role has, or as a role that may become others.
UNPINNED = [
    *ENTERING,
    ("heliosdb.catalog", "api.sql", "act_as"),
    ("heliosdb.catalog", "api.sql", "has_one_of"),
    ("heliosdb.catalog", "box.sql", "search_path"),
    ("heliosdb.catalog", "box.sql", "end_backend"),
    ("heliosdb.catalog", "doctor.sql", "server_state"),
    ("heliosdb.catalog", "doctor.sql", "reader_reach"),
]
GRAMMAR = {"coalesce", "exists", "array", "any", "all", "and", "extract", "operator", "where", "in"}
POLYMORPHIC = (
    "array_agg|array_append|array_cat|array_length|array_position|array_remove|array_to_string|cardinality|concat|"
    "concat_ws|format|jsonb?_build_array|jsonb?_build_object|num_nulls|to_jsonb?|unnest"
)


def statement(package: str, file: str, name: str) -> Statement:
    return load_statements(file, package)[name]


def code(text: str) -> str:
    """A statement without its comments and texts."""
    return re.sub(r"--[^\n]*|'[^']*'", "''", text)


@pytest.mark.parametrize(("package", "file", "name"), UNPINNED)
def test_every_function_and_operator_is_named_with_its_schema(package: str, file: str, name: str) -> None:
    text = code(statement(package, file, name).text)
    called = {one.lower() for one in re.findall(r"(?<![.\w])([a-zA-Z_]\w*)\s*\(", text)}
    assert called <= GRAMMAR
    assert not re.search(r"\|\||\s[=<>~]+\s", text)


@pytest.mark.parametrize(("package", "file", "name"), ENTERING)
def test_postgresqls_own_names_come_first(package: str, file: str, name: str) -> None:
    assert "'pg_catalog, %I, pg_temp'" in statement(package, file, name).text


@pytest.mark.parametrize(("package", "file"), sorted({(package, file) for package, file, _ in ENTERING}))
def test_a_call_fits_no_function_better_than_the_one_that_is_meant(package: str, file: str) -> None:
    """In the extension's schema others may create, too: arguments have the very types, nothing is polymorphic."""
    for one in load_statements(file, package).values():
        text = code(one.text)
        assert not re.search(rf"(?<![.\w])({POLYMORPHIC})\(", text), one.name
        for name, arguments in re.findall(r"(?<![.\w])([a-z_]\w*)\(([^()]*)\)", text):
            assert name == "in" or not re.search(r"\$\d+(?!\d|::)", arguments), (one.name, name)

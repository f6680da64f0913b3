"""Every statement of the language, one a line: it round-trips, PostgreSQL refuses it, the proxy knows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pglast.parser import ParseError, parse_sql

from federated_sql import command_tag, parse, render, rewrite
from federated_sql.grammar import RULES
from federated_sql.statements import COMMAND_TAGS

STATEMENTS = (Path(__file__).parent / "identity.sql").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_canonical_statement_is_rendered_as_it_was_read(statement: str) -> None:
    command = parse(statement)
    assert render(command) == statement
    assert parse(render(command)) == command


@pytest.mark.parametrize("statement", STATEMENTS)
def test_keywords_are_case_insensitive_and_comments_and_semicolons_do_not_matter(statement: str) -> None:
    words = statement.split(" ")
    verb = " ".join([words[0].lower(), "/* a /* nested */ comment */", *words[1:]])
    assert command_tag(parse(f"-- first\n{verb} ;\n;-- last")) == command_tag(parse(statement))


@pytest.mark.parametrize("statement", STATEMENTS)
def test_stock_postgresql_cannot_parse_it(statement: str) -> None:
    with pytest.raises(ParseError):
        parse_sql(statement)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_proxy_recognises_it_by_the_same_tag(statement: str) -> None:
    rewritten = rewrite(statement)
    assert rewritten is not None
    assert rewritten.tags == (command_tag(parse(statement)),)


def test_every_rule_of_the_grammar_has_a_statement_here() -> None:
    tags = {COMMAND_TAGS[type(parse(statement))] for statement in STATEMENTS}
    assert tags == {rule.tag for rule in RULES.values()}


def test_every_command_has_a_statement_here() -> None:
    assert {type(parse(statement)) for statement in STATEMENTS} == set(COMMAND_TAGS)

"""Errors and notices about rewritten text become ones about what was typed."""

from __future__ import annotations

import pytest

from heliosdb.proxy.rewriting import federated_rewriter
from heliosdb.proxy.wire import build_fields, build_message, parse_fields
from tests.unit.proxy.session_talk import (
    BOUND,
    IDLE,
    PARSED,
    STATEMENT,
    SYNC,
    Talk,
    bind,
    done,
    error,
    execute,
    fields,
    parse,
    query,
)

# Errors


def test_an_error_of_the_procedure_looks_like_one_of_the_servers_own_parser(talk):
    talk.client(query(f"SELECT 1;  {STATEMENT}"))
    talk.server(done(b"SELECT 1"))
    out = fields(talk.server(error(W=b"PL/pgSQL", d=b"federated_sql", c=b"position=8", F=b"f.c")))
    assert out == {b"S": b"ERROR", b"C": b"42601", b"M": b"no", b"P": b"19", b"F": b"f.c"}
    assert list(out)[-1] == b"F"


@pytest.mark.parametrize("column", [b"age", b"position=", b"position=0", b"position=99999999999"])
def test_an_error_of_the_procedure_without_a_position_gets_none(talk, column):
    talk.client(query(STATEMENT))
    out = fields(talk.server(error(W=b"PL/pgSQL", d=b"federated_sql", c=column)))
    assert out == {b"S": b"ERROR", b"C": b"42601", b"M": b"no"}


def test_the_same_error_passes_unchanged_where_the_user_called_the_procedure(talk):
    message = error(W=b"PL/pgSQL", d=b"federated_sql", c=b"position=8")
    talk.client(query("CALL federated.execute('x')"))
    assert talk.server(message, IDLE) == message + IDLE


def test_an_error_of_another_statement_in_the_message_keeps_its_fields(talk):
    message = error(W=b"PL/pgSQL", d=b"federated_sql", c=b"position=8")
    talk.client(query(f"CALL federated.execute('x'); {STATEMENT}"))
    assert talk.server(message, IDLE) == message + IDLE


def test_the_servers_own_positions_point_into_what_was_typed(talk):
    typed = f"{STATEMENT}; SELECT x"
    sent = talk.client(query(typed))
    at = sent.index(b"x\0") - 5 + 1
    out = fields(talk.server(error(P=str(at).encode())))
    assert out[b"P"] == str(typed.index("SELECT x") + 8).encode()


def test_positions_of_prepared_statements_are_mapped_at_parse_and_at_execution(talk):
    talk.client(parse(b"s", f" {STATEMENT}"), bind(b"", b"s"), execute(b""), SYNC)
    talk.server(PARSED, BOUND)
    out = fields(talk.server(error(W=b"PL/pgSQL", d=b"federated_sql", c=b"position=8")))
    assert out[b"P"] == b"9"
    talk.server(IDLE)
    talk.client(parse(b"", f" {STATEMENT}"), SYNC)
    assert fields(talk.server(error(P=b"7")))[b"P"] == b"2"


def test_a_notice_with_a_position_is_mapped_too(talk):
    talk.client(query(STATEMENT))
    notice = build_fields(b"N", [(b"S", b"WARNING"), (b"P", b"30")])
    out = talk.server(notice)
    assert out[:1] == b"N"
    assert fields(out)[b"P"] == b"1"


def test_a_malformed_error_passes_unchanged(talk):
    talk.client(query(STATEMENT))
    message = build_message(b"E", b"Sx")
    assert talk.server(message) == message


def test_an_error_out_of_the_blue_passes_unchanged(talk):
    message = error(P=b"3")
    assert talk.server(message) == message


# Hints about errors that come from what was put in the text's place


def server_error(code: bytes, message: bytes, *more: tuple[bytes, bytes]) -> bytes:
    return build_fields(b"E", [(b"S", b"ERROR"), (b"C", code), (b"M", message), *more])


NO_SCHEMA = (b"3F000", b'schema "federated" does not exist')


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        (*NO_SCHEMA, b"CREATE EXTENSION heliosdb_federated_learning"),
        (b"3F000", "Schema »federated« existiert nicht".encode(), b"CREATE EXTENSION"),
        (b"42883", b"procedure federated.execute(unknown) does not exist", b"CREATE EXTENSION"),
        (b"42501", b"permission denied for schema federated", b"federated_operator"),
        (b"42501", b"permission denied for procedure execute", b"federated_operator"),
    ],
)
def test_an_error_about_the_call_that_was_put_there_gets_a_hint(talk, code, message, hint):
    talk.client(query(f"SELECT 1;  {STATEMENT}"))
    talk.server(done(b"SELECT 1"))
    out = parse_fields(talk.server(server_error(code, message, (b"P", b"17"), (b"F", b"f.c")))[5:])
    assert [name for name, _ in out] == [b"S", b"C", b"M", b"H", b"P", b"F"]
    known = dict(out)
    assert (known[b"C"], known[b"M"], known[b"P"]) == (code, message, b"12")
    assert hint in known[b"H"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"3F000", b'schema "other" does not exist'),
        (b"42501", b"permission denied for table federated_x"),
        (b"XX000", b"federated"),
    ],
)
def test_any_other_error_of_a_federated_statement_passes_byte_for_byte(talk, code, message):
    talk.client(query(STATEMENT))
    assert talk.server(server_error(code, message)) == server_error(code, message)


def test_a_notice_gets_no_hint(talk):
    talk.client(query(STATEMENT))
    notice = b"N" + server_error(*NO_SCHEMA)[1:]
    assert talk.server(notice) == notice


def test_the_same_error_of_a_statement_as_typed_passes_byte_for_byte(talk):
    talk.client(query("CALL federated.execute('x')"))
    assert talk.server(server_error(*NO_SCHEMA)) == server_error(*NO_SCHEMA)
    talk.server(IDLE)
    talk.client(query(f"CALL federated.execute('x'); {STATEMENT}"))
    assert talk.server(server_error(*NO_SCHEMA)) == server_error(*NO_SCHEMA)


class TestPredictions:
    TEXT = "SELECT federated_model.x(1); SELECT federated_predict('m', age => 1)"
    ABSENT = (b"42883", b"function federated_model.m(age => integer) does not exist")

    @pytest.fixture
    def talk(self) -> Talk:
        return Talk(federated_rewriter())

    @pytest.mark.parametrize(
        ("code", "message", "hint"),
        [
            (b"3F000", b'schema "federated_model" does not exist', b"CREATE EXTENSION"),
            (b"42501", b"permission denied for schema federated_model", b"federated_analyst"),
            (*ABSENT, b'Is there a model "m", and does it have these features'),
            (b"42883", b"function federated_model.o'x(a => integer) does not exist", b"('o''x', "),
            (b"42883", b"function federated_row.m(people) does not exist", b'Is there a model "m", '),
            (*ABSENT, b"an array (once the model is trained) an array of numbers"),
            (b"42501", b"permission denied for schema federated_row", b"federated_analyst"),
        ],
    )
    def test_an_error_about_the_function_that_was_put_there_gets_a_hint(self, talk, code, message, hint):
        talk.client(query(self.TEXT))
        talk.server(done(b"SELECT 1"))
        out = parse_fields(talk.server(server_error(code, message, (b"H", b"No function matches")))[5:])
        assert [name for name, _ in out] == [b"S", b"C", b"M", b"H"]
        assert hint in dict(out)[b"H"]

    def test_the_same_error_about_a_function_that_was_typed_passes_byte_for_byte(self, talk):
        talk.client(query(self.TEXT))
        assert talk.server(server_error(*self.ABSENT)) == server_error(*self.ABSENT)

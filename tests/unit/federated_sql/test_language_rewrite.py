"""What the proxy changes in a query, and above all what it does not."""

from __future__ import annotations

import pytest

from federated_sql import FederatedError, Rewrite, may_concern, rewrite, syntax
from federated_sql.lexer import Token, scan
from federated_sql.postgres import MAX_PARSE_TOKENS, parse_json, parse_tree, scan_raw
from federated_sql.predict_calls import call_edits
from federated_sql.splitting import split


def changed(text: str) -> Rewrite:
    rewritten = rewrite(text)
    assert rewritten is not None
    return rewritten


def test_a_statement_becomes_a_call_in_its_place() -> None:
    text = "-- before\n  STOP FEDERATED TRAINING m -- after\n ;\n"
    rewritten = changed(text)
    assert rewritten.text == (
        "-- before\n  CALL federated.execute($federated$STOP FEDERATED TRAINING m$federated$) -- after\n ;\n"
    )
    assert rewritten.tags == ("STOP FEDERATED TRAINING",)


@pytest.mark.parametrize(
    ("statement", "numbers"),
    [("SET (features = $1)", [1]), ("SET (rounds = $3 + $1)", [1, 2, 3]), ("SET (x = '$1')", [])],
)
def test_the_server_learns_of_parameters_and_their_values_change_nothing(
    statement: str, numbers: list[int]
) -> None:
    text = f"ALTER FEDERATED MODEL m {statement}"
    changed = rewrite(text)
    assert changed is not None
    given = "".join(f', pg_catalog."left"(${number}::pg_catalog.text, 0)' for number in numbers)
    quoted = f"$federated${text}$federated$"
    assert (
        changed.text
        == f"CALL federated.execute({f'pg_catalog.concat({quoted}{given})' if numbers else quoted})"
    )
    assert changed.statement_position(0, 5) == 5


def test_statements_keep_their_number_and_order() -> None:
    text = "BEGIN; ; CREATE FEDERATED MODEL m; INSERT INTO t VALUES (';');/* x */; DROP FEDERATED MODEL m; COMMIT"
    rewritten = changed(text)
    assert rewritten.tags == (None, "CREATE FEDERATED MODEL", None, "DROP FEDERATED MODEL", None)
    assert rewritten.text == (
        "BEGIN; ; CALL federated.execute($federated$CREATE FEDERATED MODEL m$federated$); "
        "INSERT INTO t VALUES (';');/* x */; "
        "CALL federated.execute($federated$DROP FEDERATED MODEL m$federated$); COMMIT"
    )


@pytest.mark.parametrize(
    "inside",
    [
        "$federated$x$federated$",
        "$federated0$x$federated0$",
        "$a$ $federated$ $a$",
        "'$federated'",
        '"$federated"',
    ],
)
def test_the_dollar_quote_does_not_occur_in_the_text(inside: str) -> None:
    text = f"TAG FEDERATED MODEL m AS {inside}"
    tokens = scan(changed(text).text)
    assert [token.text for token in tokens[:5]] == ["CALL", "federated", ".", "execute", "("]
    assert text in tokens[5].text
    assert len(tokens) == 7


def test_a_text_that_ends_like_the_quote_does_not_close_it_early() -> None:
    text = "CREATE FEDERATED MODEL a$federated"
    tokens = scan(changed(text).text)
    assert len(tokens) == 7
    assert text in tokens[5].text


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "SELECT 'CREATE FEDERATED MODEL m; DROP FEDERATED MODEL m'",
        "SELECT E'\\'; DROP FEDERATED MODEL m; --'",
        "SELECT 1 -- ; DROP FEDERATED MODEL m",
        "SELECT 1 /* /* */ ; DROP FEDERATED MODEL m */",
        'SELECT "; DROP FEDERATED MODEL m"',
        "DO $$ BEGIN; DROP FEDERATED MODEL m; END $$",
        "DO $é$ ; DROP FEDERATED MODEL m; $z$ ; DROP FEDERATED MODEL m; $é$",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'SELECT 1; DROP FEDERATED MODEL m'",
        "SELECT * FROM federated_training_status('m')",
        "CREATE TABLE federated (training int)",
        "SELECT federated FROM federated",
        "DELETE FROM federated",
        "DELETE FROM federated training WHERE data_subject_id = 'a'",
        "DELETE FROM federated training",
        "DELETE FROM federated training USING t WHERE true",
        "DELETE FROM federated training RETURNING *",
        'DELETE FROM "federated" training m',
        "GRANT federated TO alice",
        "GRANT federated, consent TO alice",
        "REVOKE federated FROM alice",
        "CREATE ROLE federated",
        "SET ROLE federated",
        'CREATE "FEDERATED" MODEL m',
        "CREATE FEDERATED",
        "EXPLAIN CREATE FEDERATED MODEL m",
        "COPY federated FROM stdin",
        "CREATE RULE r AS ON INSERT TO federated DO ALSO (DELETE FROM a; CREATE FEDERATED MODEL m)",
        "SELECT (1; DROP FEDERATED MODEL m",
        # what the scanner refuses is the server's to refuse
        "DROP FEDERATED MODEL m; SELECT 'open",
        "DROP FEDERATED MODEL m /* open",
        "DROP FEDERATED MODEL m\0",
        "DROP FEDERATED MODEL " + "+" * 100_000,
        "DROP FEDERATED MODEL m; SELECT '" + "x" * (1 << 20) + "'",
    ],
)
def test_everything_else_is_left_alone(text: str) -> None:
    assert rewrite(text) is None


ROUTINE = """CREATE OR REPLACE {} f() {} LANGUAGE sql
BEGIN ATOMIC
    SELECT CASE WHEN true THEN 1 END AS end;
    SELECT 1 AS federated;
END"""


@pytest.mark.parametrize("kind", [("FUNCTION", "RETURNS int"), ("PROCEDURE", "")])
def test_a_routines_sql_body_is_one_statement(kind: tuple[str, str]) -> None:
    routine = ROUTINE.format(*kind)
    rewritten = changed(f"{routine}; STOP FEDERATED TRAINING m")
    assert rewritten.tags == (None, "STOP FEDERATED TRAINING")
    assert rewritten.text.startswith(routine + "; CALL")


@pytest.mark.parametrize(
    "body",
    [
        "CREATE FEDERATED MODEL m; END",
        "SELECT 1 end; CREATE FEDERATED MODEL m; END",
        "SELECT 1; STOP FEDERATED TRAINING m",
    ],
)
def test_a_body_that_the_grammar_does_not_know_leaves_the_whole_text_alone(body: str) -> None:
    assert rewrite(f"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC {body}; DROP FEDERATED MODEL m") is None


def test_an_empty_body_ends_at_once() -> None:
    text = "CREATE FUNCTION f() RETURNS void BEGIN ATOMIC END; STOP FEDERATED TRAINING m"
    assert changed(text).tags == (None, "STOP FEDERATED TRAINING")


def test_begin_atomic_elsewhere_opens_no_body() -> None:
    assert changed("SELECT 1 begin, atomic; STOP FEDERATED TRAINING m").tags == (
        None,
        "STOP FEDERATED TRAINING",
    )


def test_a_rule_with_several_actions_is_one_statement() -> None:
    text = "CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM a; DELETE FROM b); STOP FEDERATED TRAINING m"
    assert changed(text).tags == (None, "STOP FEDERATED TRAINING")


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("CREATE FEDERATED WORKSPAC w", "CREATE FEDERATED"),
        ("REGISTER FEDERATED 'n'", "REGISTER FEDERATED"),
        ("CREATE OR REPLACE FEDERATED MODEL m", "CREATE OR REPLACE FEDERATED"),
        ("create/**/federated--\nmodel m", "CREATE FEDERATED MODEL"),
        ("DELETE FROM federated training m WHERE true", "DELETE FROM FEDERATED TRAINING"),
        ('DELETE FROM federated training "Where" WHERE true', "DELETE FROM FEDERATED TRAINING"),
        ("GRANT federated consent FOR SUBJECT 'a' IN WORKSPACE w", "GRANT FEDERATED CONSENT"),
        ("SHOW FEDERATED NODE", "SHOW FEDERATED"),
        ("EXPLAIN FEDERATED TRAINING m", "EXPLAIN FEDERATED"),
        ("EXPLAIN (COSTS, VERBOSE (a)) START FEDERATED TRAINING m", "EXPLAIN"),
        ("EXPLAIN ANALYZE VERBOSE START FEDERATED MODEL m", "EXPLAIN"),
        ("PAUSE FEDERATED TRAINING m", "PAUSE FEDERATED"),
        ("DESCRIBE FEDERATED MODEL m", "DESCRIBE FEDERATED"),
        ("EVALUATE FEDERATED MODEL m", "EVALUATE FEDERATED"),
    ],
)
def test_what_postgresql_cannot_mean_is_ours_even_if_misspelt(text: str, tag: str) -> None:
    assert changed(text).tags == (tag,)
    with pytest.raises(FederatedError, match="syntax error"):
        parse_tree(text, 20)


@pytest.mark.parametrize("text", ["SHOW federated", "SHOW federated.x", "SHOW federated . models"])
def test_a_setting_that_postgresql_can_show_is_left_to_it(text: str) -> None:
    assert parse_tree(text, 5)
    assert rewrite(text) is None


@pytest.mark.parametrize(
    ("subjects", "count"),
    [("= 'a'", 1), ("IN ('a', 'b')", 2), ("IN ('b', 'a', U&'b', $$a$$)", 2), ("IN (SEALED 'cw==', 'a') WITH (method = 'retrain')", 2)],
)  # fmt: skip
def test_a_deletion_tells_how_many_subjects_it_names(subjects: str, count: int) -> None:
    deletion = f"DELETE FROM FEDERATED TRAINING m WHERE data_subject_id {subjects}"
    assert changed(f"SELECT 1; {deletion}; DELETE FROM t").tags == (None, f"DELETE {count}", None)


@pytest.mark.parametrize(
    ("typed", "sent", "tag"),
    [
        (
            "EXPLAIN START FEDERATED TRAINING m",
            'SELECT "QUERY PLAN" FROM federated.explain($federated$EXPLAIN START FEDERATED TRAINING m$federated$)',
            "EXPLAIN",
        ),
        (
            "EXPLAIN (FORMAT JSON) START FEDERATED TRAINING m",
            'SELECT "QUERY PLAN"::pg_catalog.json FROM federated.explain('
            "$federated$EXPLAIN (FORMAT JSON) START FEDERATED TRAINING m$federated$)",
            "EXPLAIN",
        ),
        ("SHOW FEDERATED RUNS", "SELECT * FROM federated.show_runs()", "SHOW"),
        (
            """show federated models in workspace "it's" """,
            "SELECT * FROM federated.show_models('it''s') ",
            "SHOW",
        ),
        (
            "SHOW FEDERATED RUNS r",
            "CALL federated.execute($federated$SHOW FEDERATED RUNS r$federated$)",
            "SHOW",
        ),
    ],
)
def test_what_answers_with_rows_becomes_a_query(typed: str, sent: str, tag: str) -> None:
    rewritten = changed(f"SELECT 1; {typed}; STOP FEDERATED TRAINING m")
    call = "CALL federated.execute($federated$STOP FEDERATED TRAINING m$federated$)"
    assert rewritten.text == f"SELECT 1; {sent}; {call}"
    assert rewritten.tags == (None, tag, "STOP FEDERATED TRAINING")


def test_statements_are_split_where_psql_splits_them() -> None:
    text = "a; ;'b;'; (c;d) ;/*;*/$$;$$/**/;--;\n;e"
    raw = scan_raw(text)
    parts = list(split(text, raw))
    assert [text[raw[part.first].start : raw[part.last - 1].end + 1] for part in parts] == [
        "a",
        "'b;'",
        "(c;d)",
        "$$;$$",
        "e",
    ]


class TestPositions:
    TEXT = "SELECT é; STOP FEDERATED TRAINING m; SELECT federated_predict('m', a => x), y FROM größe"

    def test_outside_changes_they_point_to_the_same_character(self) -> None:
        rewritten = changed(self.TEXT)
        for word in ("SELECT é", "a => x", "x)", ", y", "größe"):
            position = rewritten.text.index(word) + 1
            assert rewritten.original_position(position) == self.TEXT.index(word) + 1

    def test_inside_a_call_they_point_to_the_statement(self) -> None:
        rewritten = changed(self.TEXT)
        start = self.TEXT.index("STOP") + 1
        for word in ("CALL", "federated.execute", "STOP", "m$federated$"):
            assert rewritten.original_position(rewritten.text.index(word) + 1) == start

    def test_inside_a_renamed_function_they_point_to_its_name(self) -> None:
        rewritten = changed(self.TEXT)
        start = self.TEXT.index("federated_predict") + 1
        for word in ("federated_model", '"m"'):
            assert rewritten.original_position(rewritten.text.index(word) + 1) == start

    def test_at_the_end_of_input_they_point_behind_the_text(self) -> None:
        for text in (self.TEXT, "STOP FEDERATED TRAINING m", "SELECT federated_predict('m', a => 1)"):
            rewritten = changed(text)
            position = rewritten.original_position(len(rewritten.text) + 1)
            assert position == len(text) + 1

    def test_positions_of_the_language_are_moved_to_the_statement(self) -> None:
        rewritten = changed("  SELECT 'é'; STOP FEDERATED TRAINING m now")
        assert rewritten.statement_position(1, 1) == rewritten.original.index("STOP") + 1
        inner = "STOP FEDERATED TRAINING m now".index("now") + 1
        assert rewritten.statement_position(1, inner) == rewritten.original.index("now") + 1


@pytest.mark.parametrize(
    ("raw", "concerns"),
    [
        (b"create Federated model m", True),
        (b"select FEDERATED_PREDICT('m', a => 1)", True),
        (b"\xff\xfefederated", True),
        (b"select 1", False),
        (b"", False),
        (b"feder\xc3\xa4ted", False),
    ],
)
def test_the_gate_is_a_substring(raw: bytes, concerns: bool) -> None:
    assert may_concern(raw) is concerns


class TestWork:
    """What the proxy's loop is held up by is the grammar, so its tokens are counted."""

    CALL = "federated_predict('m', a => 1)"

    @pytest.fixture
    def parsed(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        counts: list[int] = []

        def counting(text: str, tokens: int) -> list[dict[str, object]]:
            counts.append(tokens)
            return parse_json(text, tokens)

        monkeypatch.setattr(syntax, "parse_json", counting)
        return counts

    def test_a_text_of_very_many_predictions_is_left_alone_unparsed(self, parsed: list[int]) -> None:
        text = f"SELECT {self.CALL};" * 4_000
        assert rewrite(text) is None
        assert parsed == []

    def test_the_federated_statements_in_it_are_still_ours(self, parsed: list[int]) -> None:
        rewritten = changed(f"SELECT {self.CALL};" * 4_000 + "STOP FEDERATED TRAINING m")
        assert [tag for tag in rewritten.tags if tag] == ["STOP FEDERATED TRAINING"]
        assert len(rewritten.edits) == 1
        assert parsed == []

    def test_a_text_of_many_predictions_is_changed_with_work_within_the_bound(
        self, parsed: list[int]
    ) -> None:
        rewritten = changed(f"SELECT {self.CALL};" * 400)
        assert rewritten.text.count('federated_model."m"') == 400
        assert sum(parsed) <= MAX_PARSE_TOKENS

    def test_parentheses_are_matched_in_one_pass(self) -> None:
        text = "SELECT " + "federated_predict('m', a => (SELECT " * 60 + "1" + "))" * 60
        statement = scan(text)
        reads = []

        class Counted(list[Token]):
            def __getitem__(self, index: int) -> Token:  # type: ignore[override]  # no slices are taken
                reads.append(index)
                return super().__getitem__(index)

        edits = call_edits(syntax.Syntax(text, Counted(statement)))
        assert len([edit for edit in edits if "federated_model" in edit.replacement]) == 60
        assert len(reads) < 40 * len(statement)


@pytest.mark.parametrize(
    ("text", "predicting"),
    [
        ("SELECT 1; SELECT federated_predict('m', a => 1); STOP FEDERATED TRAINING m", [1]),
        ("SELECT federated_predict('m', a => 1); SELECT federated_model.x()", [0]),
    ],
)
def test_it_is_known_which_statements_call_a_function_that_was_put_there(
    text: str, predicting: list[int]
) -> None:
    rewritten = changed(text)
    assert [index for index in range(len(rewritten.tags) + 1) if rewritten.predicts(index)] == predicting

"""What statements ask of the catalog, in which order, and what they write: with a server that runs nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from federated_sql.statements import COMMAND_TAGS
from heliosdb.catalog.connection import load_statements
from heliosdb.extension import door
from heliosdb.extension.version import CATALOG_VERSION
from tests.unit.extension.accepting_server import (
    DATASET,
    MODEL,
    MODEL_OPTIONS,
    NODE,
    SUBSCRIPTION,
    WORKSPACE,
    refused,
    run,
    server,
)
from tests.unit.extension.fake_plpy import FILES, READING, SpiError

ADMIN, OPERATOR, AUDITOR = "federated_admin", "federated_operator", "federated_auditor"
STATEMENTS = {
    "CREATE FEDERATED WORKSPACE w WITH (nonsense = 1)": ADMIN,
    "ALTER FEDERATED WORKSPACE w SET (nonsense = 1)": ADMIN,
    "ALTER FEDERATED WORKSPACE w RESET (nonsense)": ADMIN,
    "ALTER FEDERATED WORKSPACE w RENAME TO v": ADMIN,
    "ALTER FEDERATED WORKSPACE w OWNER TO bob": ADMIN,
    "DROP FEDERATED WORKSPACE w": ADMIN,
    "REGISTER FEDERATED NODE 'n' IN WORKSPACE w WITH (nonsense = 1)": ADMIN,
    "ALTER FEDERATED NODE 'n' IN WORKSPACE w SET (nonsense = 1)": ADMIN,
    "ALTER FEDERATED NODE 'n' IN WORKSPACE w RESET (nonsense)": ADMIN,
    "UNREGISTER FEDERATED NODE 'n' FROM WORKSPACE w": ADMIN,
    "CREATE FEDERATED DATASET d FOR TABLE t IN WORKSPACE w WITH (nonsense = 1)": ADMIN,
    "ALTER FEDERATED DATASET d SET (nonsense = 1)": ADMIN,
    "ALTER FEDERATED DATASET d RESET (nonsense)": ADMIN,
    "DROP FEDERATED DATASET d": ADMIN,
    "CREATE FEDERATED MODEL m IN WORKSPACE w WITH (nonsense = 1)": OPERATOR,
    "ALTER FEDERATED MODEL m SET (nonsense = 1)": OPERATOR,
    "ALTER FEDERATED MODEL m RESET (nonsense)": OPERATOR,
    "ALTER FEDERATED MODEL m RENAME TO k": OPERATOR,
    "ALTER FEDERATED MODEL m OWNER TO bob": OPERATOR,
    "DROP FEDERATED MODEL m": OPERATOR,
    "DROP FEDERATED MODEL m VERSION 1": OPERATOR,
    "DROP FEDERATED MODEL m TAG 'first'": OPERATOR,
    "START FEDERATED TRAINING m WITH (nonsense = 1)": OPERATOR,
    "STOP FEDERATED TRAINING m": OPERATOR,
    "TAG FEDERATED MODEL m AS 'first'": OPERATOR,
    "PROMOTE FEDERATED MODEL m VERSION 'first'": OPERATOR,
    "ROLLBACK FEDERATED MODEL m TO VERSION 'first'": OPERATOR,
    "CHECKPOINT FEDERATED TRAINING m TO '/tmp/x'": OPERATOR,
    "RESUME FEDERATED TRAINING m": OPERATOR,
    "CREATE FEDERATED AGGREGATION FUNCTION f() RETURNS FLOAT AS $$ x $$ LANGUAGE sql": ADMIN,
    "DROP FEDERATED AGGREGATION FUNCTION f": ADMIN,
    "DELETE FROM FEDERATED TRAINING m WHERE data_subject_id = 's'": ADMIN,
    "EXPORT FEDERATED DATA FOR SUBJECT 's' FROM WORKSPACE w TO '/tmp/x'": ADMIN,
    "GRANT FEDERATED CONSENT FOR SUBJECT 's' IN WORKSPACE w": ADMIN,
    "REVOKE FEDERATED CONSENT FOR SUBJECT 's' FROM WORKSPACE w": ADMIN,
    "CREATE FEDERATED ALERT a ON WORKSPACE w WHEN global_loss > 1 NOTIFY 'pg:c'": ADMIN,
    "DROP FEDERATED ALERT a": ADMIN,
    "ATTEST FEDERATED COMPLIANCE w FOR 'Risk analysis' UNTIL 'never' AS 't'": AUDITOR,
    "CREATE FEDERATED SUBSCRIPTION s TO MODEL m IN WORKSPACE w WITH (nonsense = 1)": ADMIN,
    "ALTER FEDERATED SUBSCRIPTION s SET (nonsense = 1)": ADMIN,
    "ALTER FEDERATED SUBSCRIPTION s RESET (nonsense)": ADMIN,
    "ALTER FEDERATED SUBSCRIPTION s REFRESH": ADMIN,
    "DROP FEDERATED SUBSCRIPTION s": ADMIN,
    "GRANT FEDERATED SUBSCRIBE ON MODEL m TO NODE 'n'": OPERATOR,
    "REVOKE FEDERATED SUBSCRIBE ON MODEL m FROM ALL NODES": OPERATOR,
    "CREATE FEDERATED EXPERIMENT e ON MODEL m VERSIONS ('1' => 1)": OPERATOR,
    "DROP FEDERATED EXPERIMENT e": OPERATOR,
}


READING_STATEMENTS = {
    "EXPLAIN START FEDERATED TRAINING m WITH (nonsense = 1)": "federated.explain(text)",
    "SHOW FEDERATED NODES IN WORKSPACE w": "federated.show_nodes()",
}


def test_every_statement_of_the_language_is_among_those_tried() -> None:
    assert len(STATEMENTS) + len(READING_STATEMENTS) == len(COMMAND_TAGS)


@pytest.mark.parametrize(("statement", "function"), READING_STATEMENTS.items())
def test_what_answers_with_rows_is_not_called(statement: str, function: str) -> None:
    failure = refused(server(), statement)
    assert failure["sqlstate"] == "0A000"
    assert function in failure["hint"]


def test_what_the_server_calls_reading_are_statements_that_there_are() -> None:
    read = {name for file in FILES for name in load_statements(file)}
    assert read > READING


@pytest.mark.parametrize(("statement", "role"), STATEMENTS.items(), ids=[s[:40] for s in STATEMENTS])
def test_the_role_is_asked_for_before_anything_else(statement: str, role: str) -> None:
    plpy = server(may_act_as=[{"allowed": False}])

    error = refused(plpy, statement)

    assert error["sqlstate"] == "42501"
    assert error["message"].startswith("permission denied to ")
    assert error["hint"] == f"This needs membership in the role {role}."
    assert plpy.called == [("may_act_as", (role,))]


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER FEDERATED WORKSPACE w SET (min_nodes = 3)",
        "ALTER FEDERATED WORKSPACE w RESET (min_nodes)",
        "ALTER FEDERATED NODE 'n' IN WORKSPACE w RESET (contact)",
        "ALTER FEDERATED DATASET d SET (min_rows = 30)",
        "ALTER FEDERATED DATASET d RESET (min_rows)",
        "ALTER FEDERATED MODEL m RESET (rounds)",
        "DROP FEDERATED WORKSPACE w",
        "REGISTER FEDERATED NODE 'n' IN WORKSPACE w WITH (endpoint = 'https://n:1')",
        "UNREGISTER FEDERATED NODE 'n' FROM WORKSPACE w",
        "ALTER FEDERATED MODEL m SET (rounds = 3)",
        "DROP FEDERATED MODEL m",
        "START FEDERATED TRAINING m",
        "STOP FEDERATED TRAINING m",
        "TAG FEDERATED MODEL m AS 'first'",
        "ALTER FEDERATED SUBSCRIPTION s SET (auto = false)",
        "ALTER FEDERATED SUBSCRIPTION s RESET (version)",
        "ALTER FEDERATED SUBSCRIPTION s REFRESH",
        "DROP FEDERATED SUBSCRIPTION s",
        "GRANT FEDERATED SUBSCRIBE ON MODEL m TO ALL NODES",
        "REVOKE FEDERATED SUBSCRIBE ON MODEL m FROM NODE 'n'",
    ],
)
def test_what_belongs_to_another_role_stays_as_it_is(statement: str) -> None:
    plpy = server(
        lock_workspace=[{**WORKSPACE, "owned": False}],
        lock_model=[{**MODEL, "owned": False}],
        lock_dataset=[{**DATASET, "owned": False}],
        lock_subscription=[{**SUBSCRIPTION, "owned": False}],
    )

    assert refused(plpy, statement)["sqlstate"] == "42501"


@pytest.mark.parametrize(
    ("statement", "sqlstate", "told", "hint"),
    [
        ("CREATE FEDERATED WORKSPACE w WITH (nonsense = 1)", "22023", 'unrecognized parameter "nonsense"', None),
        ("CREATE FEDERATED WORKSPACE w WITH (epsilon = 1)", "22023", 'unrecognized parameter "epsilon"',
         'Did you mean "privacy_budget"?'),
        ("CREATE FEDERATED WORKSPACE w WITH (node_selection = 'random(1)')", "22023",
         "node_selection random(1) chooses fewer nodes than min_nodes_per_round (2)",
         "min_nodes_per_round is min_nodes unless set."),
        ("CREATE FEDERATED WORKSPACE w WITH (node_selection = 'best_performance(1)')", "22023",
         "node_selection best_performance(1) chooses fewer nodes than min_nodes_per_round (2)",
         "min_nodes_per_round is min_nodes unless set."),
        ("ALTER FEDERATED WORKSPACE w SET (max_nodes = 1)", "22023", "min_nodes (2) may not be greater than max_nodes (1)",
         "min_nodes is 2 unless set."),
        ("START FEDERATED TRAINING m WITH (personalization = 'local_head')", "0A000",
         "personalization = 'local_head' is not supported with logistic_regression", None),
        ("START FEDERATED TRAINING m WITH (personal_epochs = 3)", "22023",
         "personal_epochs has no effect without personalization = 'fine_tune'", None),
        ("CREATE FEDERATED MODEL m WITH (top_k = 5, gradient_sparsification = 0.5)", "22023",
         "top_k and gradient_sparsification exclude each other",
         "Both say how many values of an update are sent. Leave one out."),
        ("CREATE FEDERATED MODEL m WITH (aggregation = 'median_of_mine')", "42704",
         'federated aggregation function "median_of_mine" does not exist',
         "CREATE FEDERATED AGGREGATION FUNCTION median_of_mine() ... makes it."),
        ("CREATE FEDERATED MODEL m WITH (compression = 'gzip')", "22023",
         "invalid value for option \"compression\": 'gzip'", None),
        ("CREATE FEDERATED WORKSPACE w WITH (compression_level = 23)", "22023",
         'invalid value for option "compression_level": 23', None),
        ("START FEDERATED TRAINING m WITH (freeze_layers = 1)", "22023",
         "freeze_layers has no effect on logistic_regression", "Leave it out."),
        ("CREATE FEDERATED MODEL \"m@x\"", "42602", "a model's name must not contain @",
         "model@tag names a version of a model."),
        ("ALTER FEDERATED MODEL m SET (target = 'age')", "22023", 'the target "age" cannot be one of the features', None),
        ("START FEDERATED TRAINING m WITH (learning_rate = 0)", "22023",
         'invalid value for option "learning_rate": 0', None),
        ("START FEDERATED TRAINING m WITH (features = ['a'])", "22023",
         'option "features" belongs to the model and cannot be changed for one run', "Use ALTER FEDERATED MODEL ... SET."),
        ("START FEDERATED TRAINING m WITH (feature_ranges = '{\"age\": [0, 1]}')", "22023",
         "feature_ranges has no effect without a privacy_budget", None),
        ("START FEDERATED TRAINING", "42601", None, None),
    ],
)  # fmt: skip
def test_what_is_wrong_gets_its_error_and_nothing_is_written(
    statement: str, sqlstate: str, told: str | None, hint: str | None
) -> None:
    error = refused(server(), statement)

    assert error["sqlstate"] == sqlstate
    assert told is None or error["message"] == told
    assert hint is None or error["hint"] == hint


def test_an_error_about_an_option_says_where_it_stands() -> None:
    statement = "CREATE FEDERATED MODEL m WITH (rounds = 3, sequence_length = 48)"
    assert refused(server(), statement)["position"] == str(statement.index("sequence_length") + 1)


def test_a_workspace_is_stored_as_it_was_typed_without_defaults() -> None:
    plpy = server()

    assert (
        run(plpy, "CREATE FEDERATED WORKSPACE W2 WITH (min_nodes = 3, node_selection = 'RANDOM( 5 )')")
        is None
    )

    ((name, values),) = plpy.written
    assert (name, values[0]) == ("insert_workspace", "w2")
    assert json.loads(str(values[1])) == {"min_nodes": 3, "node_selection": "random(5)"}


def test_a_name_that_is_taken_is_an_error_unless_it_may_be() -> None:
    for kind in ("WORKSPACE", "MODEL"):
        plpy = server(insert_workspace=[], insert_model=[])
        error = run(plpy, f"CREATE FEDERATED {kind} w")
        assert error is not None
        assert error["sqlstate"] == "42710"
        assert run(plpy, f"CREATE FEDERATED {kind} IF NOT EXISTS w") is None
        assert plpy.said == [("notice", f'federated {kind.lower()} "w" already exists, skipping')]


def test_what_is_altered_keeps_the_options_that_are_not_named() -> None:
    plpy = server(lock_workspace=[{**WORKSPACE, "options": '{"max_nodes": 9, "min_nodes": 2}'}])

    assert run(plpy, "ALTER FEDERATED WORKSPACE w SET (min_nodes = 3)") is None
    assert run(plpy, "ALTER FEDERATED MODEL m SET (batch_size = 64)") is None

    (_, (_, workspace)), (_, (_, model)) = plpy.written
    assert [name for name, _ in plpy.written] == ["update_workspace", "update_model"]
    assert json.loads(str(workspace)) == {"max_nodes": 9, "min_nodes": 3}
    assert json.loads(str(model)) == {**MODEL_OPTIONS, "batch_size": 64}


def test_what_is_not_there_is_an_error_unless_it_may_be_missing() -> None:
    plpy = server(lock_workspace=[], lock_model=[], lock_dataset=[])
    for statement, told in (
        ("ALTER FEDERATED WORKSPACE{} w RESET (min_nodes)", 'federated workspace "w" does not exist'),
        (
            "ALTER FEDERATED NODE{} 'n' IN WORKSPACE w RESET (contact)",
            'federated workspace "w" does not exist',
        ),
        ("ALTER FEDERATED DATASET{} d SET (min_rows = 30)", 'federated dataset "d" does not exist'),
        ("ALTER FEDERATED DATASET{} d RESET (min_rows)", 'federated dataset "d" does not exist'),
        ("ALTER FEDERATED MODEL{} m RESET (rounds)", 'federated model "m" does not exist'),
        ("ALTER FEDERATED WORKSPACE{} w SET (min_nodes = 3)", 'federated workspace "w" does not exist'),
        ("ALTER FEDERATED MODEL{} m SET (rounds = 3)", 'federated model "m" does not exist'),
    ):
        error = refused(plpy, statement.format(""))
        assert (error["sqlstate"], error["message"]) == ("42704", told)
        assert run(plpy, statement.format(" IF EXISTS")) is None
        assert plpy.said.pop() == ("notice", f"{told}, skipping")
    assert plpy.written == []


def test_a_model_without_a_workspace_gets_the_sessions_or_the_only_one() -> None:
    for names, chosen, sqlstate in (
        (["w"], None, None),
        (["w", "v"], None, "42704"),
        ([], None, "42704"),
        (["w", "v"], "v", None),
    ):
        plpy = server(
            list_workspace_names=[{"name": name} for name in names], session_workspace=[{"name": chosen}]
        )
        error = run(plpy, "CREATE FEDERATED MODEL m")
        assert (error and error["sqlstate"]) == sqlstate
        assert ("insert_model" in plpy.names) is (sqlstate is None)
        if sqlstate is None:
            assert ("find_workspace", (chosen or "w",)) in plpy.called


def test_an_error_of_the_server_keeps_its_sqlstate_detail_and_hint() -> None:
    plpy = server(insert_workspace=SpiError("23514", "no", "because", "do it otherwise"))

    assert run(plpy, "CREATE FEDERATED WORKSPACE w") == {
        "sqlstate": "23514", "message": "no", "detail": "because", "hint": "do it otherwise", "position": None,
    }  # fmt: skip


def test_a_defect_is_logged_whole_and_shown_without_internals() -> None:
    plpy = server(insert_workspace=KeyError("secret"))

    error = run(plpy, "CREATE FEDERATED WORKSPACE w")

    assert error is not None
    assert error["sqlstate"] == "XX000"
    assert "secret" not in json.dumps(error)
    assert "secret" in plpy.logged[0]


def test_a_catalog_of_another_version_is_not_touched() -> None:
    for version in ("1.1", "1.3"):
        plpy = server()
        error = run(plpy, "CREATE FEDERATED WORKSPACE w", version)
        assert error is not None
        assert error["sqlstate"] == "55000"
        assert plpy.called == []


def test_options_as_stored_are_checked_as_a_statement_would() -> None:
    def check(kind: str, options: dict[str, Any]) -> str | None:
        error = door.check_options(kind, json.dumps(options), CATALOG_VERSION)
        return None if error is None else json.loads(error)["sqlstate"]

    assert check("workspace", {"node_selection": "random(3)", "min_nodes": 3}) is None
    assert check("workspace", {"node_selection": "random(3)", "min_nodes": 4}) == "22023"
    assert check("workspace", {"node_selection": "Random(3)"}) == "22023"
    assert check("workspace", {"node_selection": "most_data(3)"}) is None
    assert check("workspace", {"node_selection": "most_data(1)"}) == "22023"
    assert check("model", {"algorithm": "linear_regression", "batch_size": 8}) is None
    assert check("model", {"sequence_length": 48}) == "0A000"


@pytest.mark.parametrize(
    ("options", "sqlstate", "named"),
    [
        ("algorithm = 'linear_regression', target_classes = ['0', '1']", "22023", "linear_regression"),
        ("target_classes = ['1', '1.0']", "22023", "target_classes"),
        ("target_classes = ['1']", "22023", "target_classes"),
        ("target_classes = ['1', '2', '1']", "22023", "target_classes"),
        ("target_classes = ['ill', 'ill']", "22023", "target_classes"),
    ],
)
def test_target_classes_are_several_of_what_learns_classes(options: str, sqlstate: str, named: str) -> None:
    for statement in (
        f"CREATE FEDERATED MODEL m WITH ({options})",
        f"ALTER FEDERATED MODEL m SET ({options})",
    ):
        error = refused(server(), statement)
        assert error["sqlstate"] == sqlstate
        assert named in error["message"]


@pytest.mark.parametrize("name", [" ", " n", "n\n", "a\tb", "\u200b"])
def test_a_node_has_a_name_that_one_can_see(name: str) -> None:
    error = refused(
        server(), f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE w WITH (endpoint = 'https://n:1')"
    )
    assert error["sqlstate"] == "42602"
    assert "name" in error["message"]


def test_a_workspace_at_a_participant_gets_a_warning() -> None:
    plpy = server(is_participant=[{"is_participant": True}])

    assert run(plpy, "CREATE FEDERATED WORKSPACE w") is None

    ((level, said),) = plpy.said
    assert level == "warning"
    assert "looks like a node's" in said


def test_what_is_reset_is_not_stored_any_more_and_what_was_not_set_is_no_error() -> None:
    plpy = server(
        lock_workspace=[{**WORKSPACE, "options": '{"max_nodes": 9, "min_nodes": 2}'}],
        list_nodes=[{**NODE, "options": '{"endpoint": "https://n:1", "contact": "c"}'}],
        lock_dataset=[{**DATASET, "options": '{"min_rows": 50, "subject": "s"}'}],
    )

    for statement in (
        "ALTER FEDERATED WORKSPACE w RESET (max_nodes, round_timeout, max_nodes)",
        "ALTER FEDERATED NODE 'n' IN WORKSPACE w RESET (contact)",
        "ALTER FEDERATED MODEL m RESET (features, trees)",
        "ALTER FEDERATED DATASET d RESET (min_rows)",
        "ALTER FEDERATED DATASET d SET (plain_answers = false)",
    ):
        assert run(plpy, statement) is None, statement

    assert [(name, json.loads(str(values[-1]))) for name, values in plpy.written if name != "notify_coordinator"] == [
        ("update_workspace", {"min_nodes": 2}),
        ("update_node", {"endpoint": "https://n:1"}),
        ("update_model", {"algorithm": "logistic_regression", "target": "ill"}),
        ("update_dataset", {"subject": "s"}),
        ("update_dataset", {"min_rows": 50, "subject": "s", "plain_answers": False}),
    ]  # fmt: skip
    assert "notify_coordinator" in plpy.names
    assert plpy.said == []


@pytest.mark.parametrize(
    ("statement", "told", "hint"),
    [
        ("ALTER FEDERATED MODEL m RESET (round)", 'unrecognized parameter "round"', 'Did you mean "rounds"?'),
        ("ALTER FEDERATED MODEL IF EXISTS m RESET (min_nodes)", 'unrecognized parameter "min_nodes"',
         '"min_nodes" is an option of a workspace.'),
        ("ALTER FEDERATED DATASET d RESET (subjct)", 'unrecognized parameter "subjct"', 'Did you mean "subject"?'),
        ("ALTER FEDERATED NODE 'n' IN WORKSPACE w RESET (endpoint)", 'node "n" has no endpoint',
         "SET (endpoint = 'https://host:port') moves the node."),
        ("ALTER FEDERATED WORKSPACE w RESET (privacy_budget)", "delta has no effect without a privacy_budget",
         "Set privacy_budget too, or leave delta at the default."),
        ("ALTER FEDERATED WORKSPACE w RESET (max_nodes)", "min_nodes (200) may not be greater than max_nodes (100)",
         "max_nodes is 100 unless set."),
        ("ALTER FEDERATED DATASET d SET (plain_answers = true)", "plain_answers and max_epsilon exclude each other",
         "A table that ever had a max_epsilon gives no answer without noise."),
    ],
)  # fmt: skip
def test_a_reset_that_would_not_do_is_refused(statement: str, told: str, hint: str) -> None:
    error = refused(
        server(
            lock_workspace=[
                {
                    **WORKSPACE,
                    "options": '{"min_nodes": 200, "max_nodes": 300, "delta": 1e-6, "privacy_budget": 1.0}'
                    if "max_nodes" in statement
                    else '{"delta": 1e-6, "privacy_budget": 1.0}',
                }
            ],
            lock_dataset=[{**DATASET, "options": '{"max_epsilon": 1.0}'}],
        ),
        statement,
    )

    assert (error["sqlstate"], error["message"], error["hint"]) == ("22023", told, hint)
    if "unrecognized" in told:
        assert error["position"] == str(statement.index("(") + 2)


def test_a_ceiling_that_was_ever_set_is_said_to_stay() -> None:
    for statement, left in (("RESET (max_epsilon)", None), ("SET (max_epsilon = 2)", 2.0)):
        plpy = server(
            lock_dataset=[{**DATASET, "options": '{"max_epsilon": 0.5}'}], dataset_ceiling=[{"ceiling": 0.5}]
        )
        assert run(plpy, f"ALTER FEDERATED DATASET d {statement}") is None
        assert json.loads(str(plpy.written[0][1][1])) == ({} if left is None else {"max_epsilon": left})
        assert plpy.said == [
            (
                "warning",
                "the table keeps its max_epsilon of 0.5: a ceiling that was ever set is not raised again",
            )
        ]

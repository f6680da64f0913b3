"""Versions and tags: functions of their own, going back, and nothing but numbers that a run has left."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors

from tests.integration.extension.versions_support import execute, finish_run, functions, notices_of, value
from tests.support.cluster import Cluster


def test_each_version_and_each_tag_is_a_function_that_the_planner_inlines(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(operator, "TAG FEDERATED MODEL risk VERSION 1 AS 'v1.0_production'")
    assert functions(trained) == ["risk", "risk@1", "risk@2", "risk@v1.0_production"]
    assert [
        value(trained, f'federated_model."{name}"(age => 10, smoker => false)') for name in functions(trained)
    ] == [6.25, 5.25, 6.25, 5.25]
    properties = trained.execute(
        "SELECT DISTINCT proowner::regrole::text, proacl::text, provolatile, proparallel, proconfig, prosqlbody IS NULL"
        " FROM pg_proc WHERE pronamespace = 'federated_model'::regnamespace"
    ).fetchall()
    assert properties == [
        (
            "federated_owner",
            "{federated_owner=X/federated_owner,federated_analyst=X/federated_owner}",
            "s",
            "s",
            None,
            False,
        )
    ]
    [(comment,)] = trained.execute(
        "SELECT obj_description(oid, 'pg_proc') FROM pg_proc WHERE pronamespace = 'federated_model'::regnamespace"
        " AND proname = 'risk@v1.0_production'"
    ).fetchall()
    assert comment.startswith("Version 1 of federated model risk, from run ")
    assert comment.endswith(", tagged v1.0_production")
    plan = trained.execute(
        'EXPLAIN (VERBOSE, COSTS OFF) SELECT federated_model."risk@v1.0_production"(age => g) FROM generate_series(1, 2) g'
    ).fetchall()
    assert "risk" not in str(plan)


def test_versions_are_listed_with_their_tags_and_figures(
    trained: psycopg.Connection, operator: psycopg.Connection, cluster: Cluster, federated_database: str
) -> None:
    execute(operator, "TAG FEDERATED MODEL risk AS 'now'", "TAG FEDERATED MODEL risk VERSION 2 AS 'best'")
    with cluster.connect(federated_database, user="an_analyst") as analyst:
        found = analyst.execute("SELECT * FROM federated_model_versions('risk')")
        assert [column.name for column in found.description or ()] == [
            "version", "tags", "round_number", "created_at", "is_current", "global_loss", "global_accuracy", "epsilon",
            "parameters_sha256", "global_loss_std_error", "global_accuracy_std_error", "retired_at", "parent", "ancestors",
        ]  # fmt: skip
        assert [row[:3] + row[4:] for row in found.fetchall()] == [
            (1, [], 3, False, 1.0, 0.75, 0.25, "abcd", None, None, None, None, None),
            (2, ["best", "now"], 3, True, 0.5, 0.75, 0.25, "abcd", None, None, None, None, None),
        ]
        found = analyst.execute("SELECT * FROM federated_checkpoints('risk')")
        assert [c.name for c in found.description or ()] == [
            "path",
            "round_number",
            "created_at",
            "size_bytes",
            "sha256",
        ]
        assert found.fetchall() == []
        for call in ("federated_model_versions", "federated_checkpoints"):
            with pytest.raises(errors.UndefinedObject, match='federated model "nothing" does not exist'):
                analyst.execute(f"SELECT * FROM {call}('nothing')")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["1", "old"])
def test_a_rollback_makes_a_version_current_and_can_be_undone(
    trained: psycopg.Connection, operator: psycopg.Connection, name: str
) -> None:
    trained.execute("CREATE VIEW dependent AS SELECT federated_model.risk(age => 10, smoker => false) AS p")
    execute(operator, "TAG FEDERATED MODEL risk VERSION 1 AS 'old'")
    rollback = f"ROLLBACK FEDERATED MODEL risk TO VERSION '{name}'"
    with operator.transaction(force_rollback=True):
        execute(operator, rollback)
        assert value(operator, "federated_model.risk(age => 10, smoker => false)") == 5.25
        assert value(trained, "p FROM dependent") == 6.25
    assert value(trained, "p FROM dependent") == 6.25
    execute(operator, rollback)
    assert value(trained, "p FROM dependent") == 5.25
    assert value(trained, "array_agg(version) FROM federated.version WHERE is_current") == [1]
    assert value(trained, "predict('risk', ARRAY[10, 0])") == 5.25
    notices = notices_of(operator)
    execute(operator, rollback, "ROLLBACK FEDERATED MODEL risk TO VERSION '2'")
    assert notices == ['version 1 of federated model "risk" is the current one already']
    assert value(trained, "p FROM dependent") == 6.25
    assert trained.execute(
        "SELECT acting_role, details -> 'after' ->> 'version' FROM federated.audit WHERE object_kind = 'version'"
        " ORDER BY recorded_at"
    ).fetchall() == [("an_operator", "1"), ("an_operator", "2")]


def test_a_version_made_again_has_the_bits_it_had(
    catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    awkward = {
        "intercept": 5e-324,
        "slopes": [1 / 3, 1.7976931348623157e308],
        "fills": [0.1, 2.2250738585072014e-308],
    }
    finish_run(catalog, daemon, **awkward, target_scale=1e-300, target_mean=0.1 + 0.2)
    body = "pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'federated_model'::regnamespace AND proname = 'risk'"
    published = value(catalog, body)
    own = value(
        catalog,
        "pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'federated_model'::regnamespace AND proname = 'risk@1'",
    )
    assert own == published.replace("federated_model.risk(", 'federated_model."risk@1"(')
    finish_run(catalog, daemon)
    catalog.execute("SET extra_float_digits = -15")
    execute(catalog, "ROLLBACK FEDERATED MODEL risk TO VERSION '1'")
    catalog.execute("RESET extra_float_digits")
    assert value(catalog, body) == published


def test_a_rollback_to_other_features_is_refused_where_objects_depend(
    trained: psycopg.Connection, daemon: psycopg.Connection, operator: psycopg.Connection
) -> None:
    finish_run(trained, daemon, features=["bmi", "smoker"])
    trained.execute("CREATE VIEW dependent AS SELECT federated_model.risk(bmi => 10) AS p")
    with pytest.raises(errors.DependentObjectsStillExist, match="version 1 of federated model") as caught:
        execute(operator, "ROLLBACK FEDERATED MODEL risk TO VERSION '1'")
    assert "view public.dependent depends" in (caught.value.diag.message_detail or "")
    assert value(trained, "version FROM federated.version WHERE is_current") == 3
    trained.execute("DROP VIEW dependent")
    execute(operator, "ROLLBACK FEDERATED MODEL risk TO VERSION '1'")
    assert value(trained, "federated_model.risk(age => 10, smoker => false)") == 5.25


def test_a_rollback_during_training_says_what_comes(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(trained, "START FEDERATED TRAINING risk")
    notices = notices_of(operator)
    execute(operator, "ROLLBACK FEDERATED MODEL risk TO VERSION '1'")
    assert notices == [
        'federated model "risk" is in training: the version of its run will be the current one'
    ]
    assert value(trained, "federated_model.risk(age => 10, smoker => false)") == 5.25


def test_a_rollback_waits_for_a_publication_and_prevails(
    trained: psycopg.Connection, daemon: psycopg.Connection, operator: psycopg.Connection
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with daemon.transaction():
            finish_run(trained, daemon, intercept=9.0)
            waiting = pool.submit(execute, operator, "ROLLBACK FEDERATED MODEL risk TO VERSION '1'")
            while not trained.execute(
                "SELECT FROM pg_locks WHERE pid = %s AND NOT granted", [operator.info.backend_pid]
            ).fetchall():
                assert not waiting.done(), waiting.exception()
        waiting.result(timeout=300)
    assert value(trained, "array_agg(version) FROM federated.version WHERE is_current") == [1]
    assert value(trained, "federated_model.risk(age => 10, smoker => false)") == 5.25


BAD_INPUT = [
    ("TAG FEDERATED MODEL nothing AS 'x'", "42704", 'federated model "nothing" does not exist'),
    ("TAG FEDERATED MODEL risk VERSION 9 AS 'x'", "42704", 'federated model "risk" has no version "9"'),
    ("TAG FEDERATED MODEL risk AS '12'", "22023", 'a tag must not be a number, as "12" is'),
    ("TAG FEDERATED MODEL risk AS ''", None, None),
    ("TAG FEDERATED MODEL risk AS 'a@b'", "22023", "a tag must not contain @"),
    ("TAG FEDERATED MODEL risk AS E'a\\nb'", "42602", None),
    ("TAG FEDERATED MODEL risk AS U&'a\\202Eb'", "42602", None),
    (f"TAG FEDERATED MODEL risk AS '{'x' * 59}'", "42602", "the tag is too long"),
    ("TAG FEDERATED MODEL risk VERSION 2 AS 'taken'", "42710", 'federated model "risk" has the tag "taken" already'),
    ("TAG FEDERATED MODEL untrained AS 'x'", "55000", 'federated model "untrained" has no trained version'),
    ("ROLLBACK FEDERATED MODEL nothing TO VERSION '1'", "42704", 'federated model "nothing" does not exist'),
    ("ROLLBACK FEDERATED MODEL risk TO VERSION 'v1'", "42704", 'federated model "risk" has no version "v1"'),
    ("ROLLBACK FEDERATED MODEL risk TO VERSION '99999999999999999999'", "42704", None),
    ("ROLLBACK FEDERATED MODEL risk TO VERSION '3'", "55000",
     'version 3 of federated model "risk" cannot be made current'),
    ("ROLLBACK FEDERATED MODEL untrained TO VERSION '1'", "42704", 'federated model "untrained" has no version "1"'),
]  # fmt: skip


def test_bad_input_gets_one_clear_error_and_changes_nothing(
    trained: psycopg.Connection,
    daemon: psycopg.Connection,
    operator: psycopg.Connection,
    subtests: pytest.Subtests,
) -> None:
    finish_run(trained, daemon, kept=False)
    execute(
        operator,
        "ROLLBACK FEDERATED MODEL risk TO VERSION '2'",
        "TAG FEDERATED MODEL risk VERSION 1 AS 'taken'",
        "CREATE FEDERATED MODEL untrained IN WORKSPACE clinics",
    )
    before = value(trained, "count(*) FROM federated.audit")
    for statement, sqlstate, message in BAD_INPUT:
        with subtests.test(statement=statement):
            with pytest.raises(psycopg.Error) as caught:
                execute(operator, statement)
            assert sqlstate is None or caught.value.sqlstate == sqlstate
            assert message is None or caught.value.diag.message_primary == message
            assert "Traceback" not in str(caught.value)
            if "no version" in str(caught.value) and "risk" in statement:
                detail = 'Its latest versions are 1, 2, 3; its latest tags "taken".'
                assert caught.value.diag.message_detail == detail
            assert value(trained, "count(*) FROM federated.audit") == before
            assert functions(trained) == ["risk", "risk@1", "risk@2", "risk@taken", "untrained"]


def test_tagging_a_version_again_with_its_tag_is_no_error(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    notices = notices_of(operator)
    execute(operator, "TAG FEDERATED MODEL risk AS 'x'", "TAG FEDERATED MODEL risk VERSION 2 AS 'x'")
    assert notices == ['version 2 of federated model "risk" has the tag "x" already']


def test_a_version_of_an_older_release_has_no_function_and_says_so(
    trained: psycopg.Connection, daemon: psycopg.Connection, operator: psycopg.Connection
) -> None:
    finish_run(trained, daemon, kept=False)
    notices = notices_of(operator)
    execute(operator, "TAG FEDERATED MODEL risk AS 'old'")
    assert notices == ["version 3 was made by a release that kept no numbers: the tag predicts nothing"]
    assert value(trained, "predict('risk', ARRAY[10, 0])") == 5.25
    for name in ("risk@3", "risk@old"):
        with pytest.raises(
            errors.ObjectNotInPrerequisiteState, match=r"version 3 of federated model .* no function"
        ):
            trained.execute("SELECT predict(%s, ARRAY[10, 0])", [name])


def test_a_version_whose_functions_name_would_be_too_long_has_none(
    trained: psycopg.Connection, daemon: psycopg.Connection, operator: psycopg.Connection
) -> None:
    name = "m" * 62
    execute(trained, f"CREATE FEDERATED MODEL {name} IN WORKSPACE clinics WITH (algorithm = 'linear_regression',"
                     " features = ['age', 'smoker'], target = 'y')")  # fmt: skip
    finish_run(trained, daemon, name)
    assert [f for f in functions(trained) if f.startswith("m")] == [name]
    with pytest.raises(errors.ObjectNotInPrerequisiteState) as caught:
        trained.execute("SELECT predict(%s, ARRAY[10, 0])", [f"{name}@1"])
    assert "63 bytes" in (caught.value.diag.message_detail or "")


def test_functions_go_with_the_model_and_dependents_keep_it(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(operator, "TAG FEDERATED MODEL risk AS 'x'")
    trained.execute('CREATE VIEW dependent AS SELECT federated_model."risk@x"(age => 1) AS p')
    with pytest.raises(errors.DependentObjectsStillExist):
        execute(operator, "DROP FEDERATED MODEL risk")
    assert functions(trained) == ["risk", "risk@1", "risk@2", "risk@x"]
    execute(operator, "DROP FEDERATED MODEL risk CASCADE")
    assert functions(trained) == []
    assert value(trained, "to_regclass('dependent')") is None
    assert value(trained, "count(*) FROM federated.tag") == 0


def test_a_tag_that_is_deleted_takes_its_function_along(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(operator, "TAG FEDERATED MODEL risk AS 'x'")
    operator.execute("DELETE FROM federated.tag WHERE name = 'x'")
    assert functions(trained) == ["risk", "risk@1", "risk@2"]


def test_a_renamed_model_renames_its_functions_and_dependents_follow(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(operator, "TAG FEDERATED MODEL risk AS 'x'")
    trained.execute(
        "CREATE VIEW dependent AS SELECT federated_model.risk(age => 10, smoker => false) AS p,"
        ' federated_model."risk@1"(age => 10, smoker => false) AS q'
    )
    with operator.transaction(force_rollback=True):
        execute(operator, "ALTER FEDERATED MODEL risk RENAME TO other")
    assert functions(trained) == ["risk", "risk@1", "risk@2", "risk@x"]
    execute(operator, 'ALTER FEDERATED MODEL risk RENAME TO "Größe \'x"')
    assert functions(trained) == ["Größe 'x", "Größe 'x@1", "Größe 'x@2", "Größe 'x@x"]
    assert trained.execute("SELECT p, q FROM dependent").fetchall() == [(6.25, 5.25)]
    comments = trained.execute(
        "SELECT obj_description(oid, 'pg_proc') FROM pg_proc WHERE pronamespace = 'federated_model'::regnamespace"
    ).fetchall()
    assert all("federated model Größe 'x, from run" in comment for (comment,) in comments)
    assert value(trained, "predict('Größe ''x@x', ARRAY[10, 0])") == 6.25
    execute(operator, "ROLLBACK FEDERATED MODEL \"Größe 'x\" TO VERSION '1'")
    assert trained.execute("SELECT p, q FROM dependent").fetchall() == [(5.25, 5.25)]
    with pytest.raises(errors.UndefinedObject, match='federated model "risk" does not exist'):
        trained.execute("SELECT predict('risk', ARRAY[1, 0])")


def test_an_untrained_model_that_is_renamed_says_its_new_name(
    catalog: psycopg.Connection, operator: psycopg.Connection
) -> None:
    catalog.execute("CREATE VIEW dependent AS SELECT federated_model.risk(age => 10) AS p")
    execute(operator, "ALTER FEDERATED MODEL risk RENAME TO other")
    assert functions(catalog) == ["other"]
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match='federated model "other" has no trained'):
        catalog.execute("SELECT * FROM dependent")


@pytest.mark.parametrize(
    ("statement", "sqlstate", "message"),
    [
        ("ALTER FEDERATED MODEL risk RENAME TO other", "42710", 'federated model "other" already exists'),
        ("ALTER FEDERATED MODEL risk RENAME TO risk", "42710", 'federated model "risk" already exists'),
        ("ALTER FEDERATED MODEL nothing RENAME TO x", "42704", 'federated model "nothing" does not exist'),
        ('ALTER FEDERATED MODEL risk RENAME TO "a@1"', "42602", "a model's name must not contain @"),
        ('CREATE FEDERATED MODEL "risk@1" IN WORKSPACE clinics', "42602", "a model's name must not contain @"),
        (f"ALTER FEDERATED MODEL risk RENAME TO {'x' * 60}", "42602", "model name is too long"),
        ("ALTER FEDERATED MODEL other RENAME TO x", "55006", 'federated model "other" is in training'),
    ],
)  # fmt: skip
def test_a_model_keeps_its_name_where_the_new_one_cannot_be(
    trained: psycopg.Connection, operator: psycopg.Connection, statement: str, sqlstate: str, message: str
) -> None:
    execute(
        operator,
        "TAG FEDERATED MODEL risk AS 'long'",
        "CREATE FEDERATED MODEL other IN WORKSPACE clinics WITH (algorithm = 'linear_regression', features = ['a'],"
        " target = 'y')",
        "START FEDERATED TRAINING other",
    )
    with pytest.raises(psycopg.Error) as caught:
        execute(operator, statement)
    assert (caught.value.sqlstate, caught.value.diag.message_primary) == (sqlstate, message)
    assert functions(trained) == ["other", "risk", "risk@1", "risk@2", "risk@long"]


@pytest.mark.parametrize(
    ("attack", "error"),
    [
        ("INSERT INTO federated.model (workspace_id, name) SELECT workspace_id, 'risk@1' FROM federated.workspace",
         errors.InvalidName),
        ("UPDATE federated.model SET name = 'risk@1'", errors.InvalidName),
        ("UPDATE federated.version SET prediction = '{}'", errors.InsufficientPrivilege),
        ("UPDATE federated.version SET is_current = false", errors.ObjectNotInPrerequisiteState),
        ("INSERT INTO federated.version (model_id, version) VALUES (1, 3)", errors.InsufficientPrivilege),
        ("UPDATE federated.tag SET name = 'x'", errors.InsufficientPrivilege),
        ("INSERT INTO federated.tag (model_id, name, version) SELECT model_id, '7', 1 FROM federated.model",
         errors.InvalidParameterValue),
        ("INSERT INTO federated.tag (model_id, name, version) SELECT model_id, E'a\\tb', 1 FROM federated.model",
         errors.InvalidName),
        ("SELECT federated._define_version('risk', '', model_id, 1) FROM federated.model", errors.InsufficientPrivilege),
        ("SELECT federated._label_functions(model_id, 1) FROM federated.model", errors.InsufficientPrivilege),
        ("SELECT federated._rename_functions(model_id, 'risk', 'x', '[]') FROM federated.model",
         errors.InsufficientPrivilege),
    ],
)  # fmt: skip
@pytest.mark.changes_nothing
def test_an_operator_chooses_among_versions_and_writes_none(
    trained: psycopg.Connection, operator: psycopg.Connection, attack: str, error: type[psycopg.Error]
) -> None:
    with pytest.raises(error):
        operator.execute(attack)  # type: ignore[arg-type]
    assert functions(trained) == ["risk", "risk@1", "risk@2"]


def test_a_version_with_no_prediction_in_it_is_refused(
    catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    finish_run(catalog, daemon)
    for broken in ("jsonb_set(prediction, '{slopes}', '[1]')", "jsonb_set(prediction, '{link}', '\"; DROP\"')",
                   "prediction - 'intercept'"):  # fmt: skip
        with pytest.raises(psycopg.Error), daemon.transaction():
            daemon.execute(
                "INSERT INTO federated.version (model_id, version, run_id, round_number, features, scaling, sealed,"  # type: ignore[arg-type]
                f" sha256, prediction) SELECT model_id, 2, run_id, 1, features, '{{}}', '', '', {broken}"
                " FROM federated.version"
            )
    assert functions(catalog) == ["risk", "risk@1"]


@pytest.mark.parametrize(
    "stores",
    [
        "CREATE INDEX stored ON kept (federated_model.risk(age => age))",
        "ALTER TABLE kept ADD COLUMN p float8 GENERATED ALWAYS AS (federated_model.risk(age => age)) STORED",
        "ALTER TABLE kept ADD CHECK (federated_model.risk(age => age) IS NOT NULL)",
    ],
)
def test_no_other_version_becomes_current_where_predictions_of_this_one_are_stored(
    trained: psycopg.Connection, daemon: psycopg.Connection, stores: str
) -> None:
    trained.execute("CREATE TABLE kept (age float8)")
    trained.execute(stores)  # type: ignore[arg-type]
    with pytest.raises(errors.DependentObjectsStillExist) as refused:
        execute(trained, "ROLLBACK FEDERATED MODEL risk TO VERSION '1'")
    assert "They are stored by " in (refused.value.diag.message_detail or "")
    finish_run(trained, daemon, intercept=2.25)
    assert value(trained, "federated_model.risk(age => 10)") == 7.25
    assert value(trained, "array_agg(version ORDER BY version) FROM federated.version") == [1, 2, 3]
    trained.execute("DROP TABLE kept")
    execute(trained, "ROLLBACK FEDERATED MODEL risk TO VERSION '1'")


def test_predictions_of_a_named_version_may_be_stored(
    trained: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    trained.execute("CREATE TABLE kept (age float8)")
    trained.execute('CREATE INDEX stored ON kept (federated_model."risk@2"(age => age))')
    execute(
        trained,
        "TAG FEDERATED MODEL risk VERSION 2 AS 'kept'",
        "ROLLBACK FEDERATED MODEL risk TO VERSION '1'",
    )
    finish_run(trained, daemon, intercept=2.25)
    assert value(trained, "federated_model.risk(age => 10)") == 8.25

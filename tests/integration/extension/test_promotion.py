"""Which version a model predicts by: promoted by hand, tags that move, versions that are dropped."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from tests.integration.extension.versions_support import execute, finish_run, functions, notices_of, value
from tests.support.cluster import Cluster
from tests.support.publication import publish_version


def test_a_version_is_promoted_by_its_number_or_its_tag(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(
        operator,
        "TAG FEDERATED MODEL risk VERSION 1 AS 'first'",
        "PROMOTE FEDERATED MODEL risk VERSION 'first'",
    )
    assert value(trained, "predict('risk', ARRAY[10, 0])") == 5.25
    notices = notices_of(operator)
    execute(operator, "PROMOTE FEDERATED MODEL risk VERSION 2", "PROMOTE FEDERATED MODEL risk VERSION 2")
    assert notices == ['version 2 of federated model "risk" is the current one already']
    assert value(trained, "predict('risk', ARRAY[10, 0])") == 6.25
    execute(trained, "START FEDERATED TRAINING risk WITH (promote = false)")
    execute(operator, "PROMOTE FEDERATED MODEL risk VERSION 1")
    assert len(notices) == 1, "the run that is queued promotes nothing"


def test_a_tag_moves_with_its_function_and_what_depends_on_it(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(operator, "TAG FEDERATED MODEL risk VERSION 1 AS 'prod' REPLACE")
    trained.execute(
        'CREATE VIEW dependent AS SELECT federated_model."risk@prod"(age => 10, smoker => false) AS p'
    )
    assert value(trained, "p FROM dependent") == 5.25
    execute(operator, "TAG FEDERATED MODEL risk VERSION 2 AS 'prod' REPLACE")
    assert value(trained, "p FROM dependent") == 6.25
    assert value(trained, "predict('risk@prod', ARRAY[10, 0])") == 6.25
    comment = "obj_description('federated_model.\"risk@prod\"'::regproc, 'pg_proc')"
    assert value(trained, comment).startswith("Version 2 of federated model risk, from run ")
    assert value(trained, comment).endswith(", tagged prod")
    assert trained.execute(
        "SELECT acting_role, action, details -> 'before' ->> 'version', details -> 'after' ->> 'version'"
        " FROM federated.audit WHERE object_kind = 'tag' ORDER BY recorded_at"
    ).fetchall() == [("an_operator", "insert", None, "1"), ("an_operator", "update", "1", "2")]
    with pytest.raises(errors.DuplicateObject) as caught:
        execute(operator, "TAG FEDERATED MODEL risk VERSION 1 AS 'prod'")
    assert caught.value.diag.message_hint == "TAG … REPLACE moves it to another version."


def test_a_tag_whose_predictions_are_stored_stays(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(operator, "TAG FEDERATED MODEL risk VERSION 1 AS 'prod'")
    trained.execute('CREATE TABLE stored (p float8 DEFAULT federated_model."risk@prod"(age => 10))')
    with pytest.raises(
        errors.DependentObjectsStillExist, match=r'the tag "prod" .* cannot be moved'
    ) as caught:
        execute(operator, "TAG FEDERATED MODEL risk VERSION 2 AS 'prod' REPLACE")
    assert "default value for column p of table public.stored" in (caught.value.diag.message_detail or "")
    assert value(trained, "predict('risk@prod', ARRAY[10, 0])") == 5.25


def test_a_tag_does_not_move_to_a_version_without_numbers(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(operator, "TAG FEDERATED MODEL risk AS 'prod'")
    trained.execute("UPDATE federated.version SET prediction = NULL WHERE version = 1")
    with pytest.raises(
        errors.ObjectNotInPrerequisiteState, match=r'the tag "prod" .* cannot be moved to version 1'
    ):
        execute(operator, "TAG FEDERATED MODEL risk VERSION 1 AS 'prod' REPLACE")
    assert value(trained, "predict('risk@prod', ARRAY[10, 0])") == 6.25


def test_a_tag_does_not_move_to_other_features_where_objects_depend(
    trained: psycopg.Connection, daemon: psycopg.Connection, operator: psycopg.Connection
) -> None:
    finish_run(trained, daemon, features=["bmi", "smoker"])
    execute(operator, "TAG FEDERATED MODEL risk VERSION 1 AS 'prod'")
    trained.execute('CREATE VIEW dependent AS SELECT federated_model."risk@prod"(age => 10) AS p')
    with pytest.raises(
        errors.DependentObjectsStillExist, match=r'the tag "prod" .* cannot be moved'
    ) as caught:
        execute(operator, "TAG FEDERATED MODEL risk VERSION 3 AS 'prod' REPLACE")
    assert "view public.dependent depends" in (caught.value.diag.message_detail or "")
    trained.execute("DROP VIEW dependent")
    execute(operator, "TAG FEDERATED MODEL risk VERSION 3 AS 'prod' REPLACE")
    assert value(trained, 'federated_model."risk@prod"(bmi => 10, smoker => false)') == 5.25


def test_a_tag_is_dropped_with_its_function_alone(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(operator, "TAG FEDERATED MODEL risk VERSION 1 AS 'prod'")
    trained.execute('CREATE VIEW dependent AS SELECT federated_model."risk@prod"(age => 10) AS p')
    with pytest.raises(errors.DependentObjectsStillExist):
        execute(operator, "DROP FEDERATED MODEL risk TAG 'prod'")
    execute(operator, "DROP FEDERATED MODEL risk TAG 'prod' CASCADE")
    assert value(trained, "to_regclass('dependent')") is None
    assert functions(trained) == ["risk", "risk@1", "risk@2"]
    with pytest.raises(errors.UndefinedObject, match='federated model "risk" has no tag "prod"'):
        execute(operator, "DROP FEDERATED MODEL risk TAG 'prod'")
    notices = notices_of(operator)
    execute(
        operator,
        "DROP FEDERATED MODEL IF EXISTS risk TAG 'prod'",
        "DROP FEDERATED MODEL IF EXISTS gone TAG 'x'",
    )
    assert notices == [
        'federated model "risk" has no tag "prod", skipping',
        'federated model "gone" does not exist, skipping',
    ]


def test_a_version_is_dropped_where_nothing_needs_it(
    trained: psycopg.Connection, daemon: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(operator, "TAG FEDERATED MODEL risk VERSION 1 AS 'prod'")
    drop = "DROP FEDERATED MODEL risk VERSION 1"
    with pytest.raises(errors.DependentObjectsStillExist, match=r"version 1 .* is tagged") as caught:
        execute(operator, drop)
    assert caught.value.diag.message_detail == 'Its tags are "prod".'
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="version 2 is the current one"):
        execute(operator, "DROP FEDERATED MODEL risk VERSION 2 CASCADE")
    execute(operator, "DROP FEDERATED MODEL risk TAG 'prod'")
    trained.execute('CREATE VIEW dependent AS SELECT federated_model."risk@1"(age => 10) AS p')
    with pytest.raises(errors.DependentObjectsStillExist):
        execute(operator, drop)
    trained.execute("DROP VIEW dependent")
    execute(operator, drop)
    assert functions(trained) == ["risk", "risk@2"]
    with pytest.raises(errors.UndefinedObject, match='federated model "risk" has no version "1"') as gone:
        execute(operator, "PROMOTE FEDERATED MODEL risk VERSION 1")
    assert gone.value.diag.message_detail == "Version 1 was dropped."
    assert trained.execute(
        "SELECT acting_role, details -> 'before' ->> 'version' FROM federated.audit"
        " WHERE object_kind = 'version' AND action = 'delete'"
    ).fetchall() == [("an_operator", "1")]
    notices = notices_of(operator)
    execute(operator, "DROP FEDERATED MODEL IF EXISTS risk VERSION 1")
    assert notices == ['federated model "risk" has no version "1", skipping']


def test_a_dropped_version_takes_its_tags_by_cascade_and_its_number_is_not_given_again(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(
        operator,
        "PROMOTE FEDERATED MODEL risk VERSION 1",
        "TAG FEDERATED MODEL risk VERSION 2 AS 'prod'",
        "DROP FEDERATED MODEL risk VERSION 'prod' CASCADE",
    )
    assert functions(trained) == ["risk", "risk@1"]
    assert value(trained, "dropped_version FROM federated.model WHERE name = 'risk'") == 2
    execute(operator, "DROP FEDERATED MODEL risk")
    assert trained.execute(
        "SELECT DISTINCT workspace, object_kind FROM federated.audit WHERE action = 'delete' ORDER BY 2"
    ).fetchall() == [("clinics", kind) for kind in ("model", "run", "tag", "version")], (
        "version 1 went with its model"
    )


def test_whoever_does_not_own_the_model_changes_none_of_it(
    trained: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(operator, "TAG FEDERATED MODEL risk VERSION 1 AS 'prod'")
    trained.execute("UPDATE federated.model SET owner = 'an_admin'")
    trained.execute("UPDATE federated.workspace SET owner = 'an_admin'")
    for statement in (
        "PROMOTE FEDERATED MODEL risk VERSION 1",
        "TAG FEDERATED MODEL risk VERSION 2 AS 'prod' REPLACE",
        "DROP FEDERATED MODEL risk TAG 'prod'",
        "DROP FEDERATED MODEL risk VERSION 1 CASCADE",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            execute(operator, statement)
    for statement in (
        "UPDATE federated.tag SET version = 2",
        "DELETE FROM federated.version WHERE version = 1",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            operator.execute(statement)  # type: ignore[arg-type]


def test_a_model_none_of_whose_versions_was_promoted_says_so(
    catalog: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    finish_run(catalog, daemon, promoted=False)
    assert functions(catalog) == ["risk", "risk@1"]
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match='"risk" has no current version') as caught:
        catalog.execute("SELECT predict('risk', ARRAY[10, 0])")
    assert caught.value.diag.message_hint is not None
    assert caught.value.diag.message_hint.startswith("PROMOTE FEDERATED MODEL risk VERSION")
    execute(
        catalog, "ALTER FEDERATED MODEL risk RENAME TO danger", "PROMOTE FEDERATED MODEL danger VERSION 1"
    )
    assert value(catalog, "predict('danger', ARRAY[10, 0])") == 5.25


def test_a_run_that_promotes_nothing_says_which_statement_does(
    cluster: Cluster, catalog: psycopg.Connection
) -> None:
    execute(
        catalog,
        'ALTER FEDERATED MODEL risk RENAME TO "Their Risk"',
        'START FEDERATED TRAINING "Their Risk" WITH (promote = false)',
    )
    made = publish_version(cluster, catalog.info.dbname, "Their Risk", intercept=0.25, slopes=(0.5, 2.0))
    assert made.obstacle is not None
    assert made.obstacle.startswith("version 1 is stored but not current, since promote is false: ")
    execute(catalog, made.obstacle.partition(": ")[2])
    assert value(catalog, "predict('Their Risk', ARRAY[10, 0])") == 5.25

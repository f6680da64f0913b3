"""Statements through CALL federated.execute on a real server: effects in the catalog, and exact errors."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from heliosdb.transport.authority import Authority
from tests.integration.extension.commands_support import MODEL, NODE, WORKSPACE, execute, fetch
from tests.support.cluster import Cluster


def test_quick_start_statements_fill_the_catalog(session: psycopg.Connection) -> None:
    execute(session, WORKSPACE, NODE, MODEL, "START FEDERATED TRAINING risk WITH (local_epochs = 5)")
    [(options,)] = fetch(session, "SELECT options FROM federated.workspace WHERE name = 'clinics'")
    assert options == {"privacy_budget": 0.5, "min_nodes": 3, "compliance_mode": "HIPAA"}
    assert fetch(session, "SELECT name, status::text FROM federated.node") == [("clinic_a", "pending")]
    [(status, run, policy)] = fetch(session, "SELECT status::text, options, policy FROM federated.run")
    assert status == "queued"
    assert (run["rounds"], run["local_epochs"], run["aggregation"]) == (5, 5, "fedavg")
    assert (policy["workspace"], policy["min_nodes"], policy["round_timeout"]) == ("clinics", 3, 300)
    [row] = fetch(session, "SELECT round_number, status, message FROM federated_training_status('risk')")
    assert row == (0, "queued", None)


@pytest.mark.parametrize(
    ("statement", "sqlstate", "message"),
    [
        ("CREATE FEDERATED WORKSPACE clinics", "42710", 'federated workspace "clinics" already exists'),
        ("CREATE FEDERATED MODEL risk IN WORKSPACE clinics", "42710", 'federated model "risk" already exists'),
        (NODE, "42710", 'federated node "clinic_a" already exists'),
        ("CREATE FEDERATED MODEL m IN WORKSPACE nowhere", "42704", 'federated workspace "nowhere" does not exist'),
        ("START FEDERATED TRAINING nothing", "42704", 'federated model "nothing" does not exist'),
        ("STOP FEDERATED TRAINING risk", "55000", 'federated model "risk" is not in training'),
        ("DROP FEDERATED WORKSPACE clinics", "2BP01", 'cannot drop federated workspace "clinics" because other'
         " objects depend on it"),
        ("CREATE FEDERATED WORKSPACE w WITH (privacy_bugdet = 1)", "22023", 'unrecognized parameter "privacy_bugdet"'),
        ("CREATE FEDERATED WORKSPACE w WITH (secure_thing = 1, quantization = 8)", "22023",
         'unrecognized parameter "secure_thing"'),
        ("CREATE FEDERATED WORKSPACE w WITH (trust_model = 'central')", "22023",
         "trust_model has no effect without a privacy_budget"),
        ("CREATE FEDERATED WORKSPACE w WITH (privacy_budget = 1, trust_model = 'central', compliance_mode = 'GDPR')",
         "22023", "compliance_mode = 'GDPR' needs another trust_model than 'central'"),
        ("CREATE FEDERATED WORKSPACE w WITH (tls_version = '1.2')", "0A000",
         "option \"tls_version\" = '1.2' is not supported yet"),
        ("CREATE FEDERATED WORKSPACE w WITH (privacy_budget = 0)", "22023",
         'invalid value for option "privacy_budget": 0'),
        ("CREATE FEDERATED WORKSPACE w WITH (privacy_budget = 1, delta = 0.1)", "22023",
         'invalid value for option "delta": 0.1'),
        ("CREATE FEDERATED WORKSPACE w WITH (privacy_budget = 1, clipping_threshold = 0)", "22023",
         'invalid value for option "clipping_threshold": 0'),
        ("CREATE FEDERATED WORKSPACE w WITH (privacy_budget = 1, noise_multiplier = 0)", "22023",
         'invalid value for option "noise_multiplier": 0'),
        ("CREATE FEDERATED WORKSPACE w WITH (min_nodes = 'many')", "22023",
         "invalid value for option \"min_nodes\": 'many'"),
        ("CREATE FEDERATED WORKSPACE w WITH (privacy_budget = -1)", "22023",
         'invalid value for option "privacy_budget": -1'),
        ("CREATE FEDERATED WORKSPAC w", "42601", None),
        ("TAG FEDERATED MODEL risk AS 'v1'", "55000", 'federated model "risk" has no trained version'),
        ("CREATE FEDERATED MODEL m IN WORKSPACE clinics WITH (features = ['a'], target = 'a')", "22023", None),
        ("REGISTER FEDERATED NODE 'n' IN WORKSPACE clinics", "22023", 'node "n" has no endpoint'),
        ("DROP FEDERATED MODEL nothing", "42704", 'federated model "nothing" does not exist'),
        ("UNREGISTER FEDERATED NODE 'x' FROM WORKSPACE clinics", "42704", 'federated node "x" does not exist'),
    ],
)  # fmt: skip
def test_bad_input_gets_one_clear_error_and_changes_nothing(
    session: psycopg.Connection, statement: str, sqlstate: str, message: str | None
) -> None:
    execute(session, WORKSPACE, NODE, MODEL)
    before = fetch(session, "SELECT count(*) FROM federated.audit")
    with pytest.raises(psycopg.Error) as caught:
        execute(session, statement)
    assert caught.value.sqlstate == sqlstate
    if message is not None:
        assert caught.value.diag.message_primary == message
    assert "Traceback" not in str(caught.value)
    assert fetch(session, "SELECT count(*) FROM federated.audit") == before


def test_an_error_carries_its_position_for_the_proxy(session: psycopg.Connection) -> None:
    with pytest.raises(errors.InvalidParameterValue) as caught:
        execute(session, "CREATE FEDERATED WORKSPACE w WITH (wrong = 1)")
    assert caught.value.diag.column_name == "position=36"
    assert caught.value.diag.datatype_name == "federated_sql"


def test_null_and_nul_are_refused(session: psycopg.Connection) -> None:
    with pytest.raises(errors.InvalidParameterValue, match="must not be null"):
        session.execute("CALL federated.execute(NULL)")


def test_model_without_workspace_goes_to_the_setting_then_to_the_only_one(
    session: psycopg.Connection,
) -> None:
    with pytest.raises(errors.UndefinedObject, match="there is no federated workspace"):
        execute(session, "CREATE FEDERATED MODEL a")
    execute(
        session,
        "CREATE FEDERATED WORKSPACE one",
        "CREATE FEDERATED MODEL a",
        "CREATE FEDERATED WORKSPACE two",
    )
    with pytest.raises(errors.UndefinedObject, match="no federated workspace is chosen"):
        execute(session, "CREATE FEDERATED MODEL b")
    session.execute("SET heliosdb.workspace = 'two'")
    execute(session, "CREATE FEDERATED MODEL b")
    assert fetch(
        session,
        "SELECT m.name, w.name FROM federated.model m JOIN federated.workspace w USING (workspace_id) ORDER BY 1",
    ) == [("a", "one"), ("b", "two")]


def test_what_may_be_missing_or_there_already_is_skipped_with_a_notice(session: psycopg.Connection) -> None:
    execute(session, WORKSPACE, NODE)
    notices: list[str] = []
    session.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary or ""))
    execute(
        session,
        "ALTER FEDERATED WORKSPACE IF EXISTS w SET (min_nodes = 2)",
        "ALTER FEDERATED WORKSPACE IF EXISTS w RENAME TO v",
        "ALTER FEDERATED WORKSPACE IF EXISTS w OWNER TO postgres",
        "ALTER FEDERATED NODE IF EXISTS 'n' IN WORKSPACE clinics SET (contact = 'x')",
        "ALTER FEDERATED NODE IF EXISTS 'n' IN WORKSPACE w SET (contact = 'x')",
        "UNREGISTER FEDERATED NODE IF EXISTS 'n' FROM WORKSPACE w",
        NODE.replace("NODE 'clinic_a'", "NODE IF NOT EXISTS 'clinic_a'"),
        "ALTER FEDERATED MODEL IF EXISTS m SET (rounds = 2)",
        "ALTER FEDERATED MODEL IF EXISTS m RENAME TO n",
        "ALTER FEDERATED MODEL IF EXISTS m OWNER TO postgres",
    )
    missing = [f'federated {what} does not exist, skipping' for what in (*['workspace "w"'] * 3, 'node "n"',
               *['workspace "w"'] * 2)]  # fmt: skip
    assert notices == [
        *missing,
        'federated node "clinic_a" already exists, skipping',
        *['federated model "m" does not exist, skipping'] * 3,
    ]


def test_residency_is_checked_at_registration(session: psycopg.Connection) -> None:
    execute(session, "CREATE FEDERATED WORKSPACE w WITH (data_residency = 'EU')")
    register = "REGISTER FEDERATED NODE '{}' IN WORKSPACE w WITH (endpoint = 'https://h:1'{})"
    for place in ("", ", data_residency = 'US-WEST'"):
        with pytest.raises(errors.InvalidParameterValue, match="not within the data residency") as caught:
            execute(session, register.format("n", place))
        assert caught.value.diag.message_hint
    execute(session, register.format("n", ", data_residency = 'DE'"))


def test_max_nodes_bounds_registration(session: psycopg.Connection) -> None:
    execute(
        session,
        "CREATE FEDERATED WORKSPACE w WITH (min_nodes = 1, max_nodes = 1)",
        "REGISTER FEDERATED NODE 'a' IN WORKSPACE w WITH (endpoint = 'https://h:1')",
    )
    with pytest.raises(errors.ProgramLimitExceeded, match="has its 1 node"):
        execute(session, "REGISTER FEDERATED NODE 'b' IN WORKSPACE w WITH (endpoint = 'https://h:1')")


def test_one_endpoint_is_one_node_of_a_workspace(session: psycopg.Connection) -> None:
    execute(session, "CREATE FEDERATED WORKSPACE w", "CREATE FEDERATED WORKSPACE other")
    register = "REGISTER FEDERATED NODE '{}' IN WORKSPACE {} WITH (endpoint = '{}')"
    execute(session, register.format("a", "w", "https://h.example:1"))
    for again in ("https://h.example:1", "https://H.example:1/"):
        with pytest.raises(errors.DuplicateObject, match='node "a" of workspace "w" has this endpoint'):
            execute(session, register.format("b", "w", again))
    execute(
        session,
        register.format("b", "w", "https://h.example:2"),
        register.format("a", "other", "https://h.example:1"),
        "ALTER FEDERATED NODE 'a' IN WORKSPACE w SET (endpoint = 'https://h.example:1', contact = 'dba')",
    )
    with pytest.raises(errors.DuplicateObject, match='node "a"'):
        execute(session, "ALTER FEDERATED NODE 'b' IN WORKSPACE w SET (endpoint = 'https://h.example:1')")


def test_a_backup_endpoint_is_a_second_address_of_the_same_node_alone(session: psycopg.Connection) -> None:
    execute(
        session,
        "CREATE FEDERATED WORKSPACE w",
        "REGISTER FEDERATED NODE 'a' IN WORKSPACE w"
        " WITH (endpoint = 'https://h.example:1', backup_endpoint = 'https://h.example:2')",
        "REGISTER FEDERATED NODE 'b' IN WORKSPACE w WITH (endpoint = 'https://i.example:1')",
    )
    alter = "ALTER FEDERATED NODE 'b' IN WORKSPACE w SET ({} = '{}')"
    for option, taken in (("endpoint", "https://h.example:2"), ("backup_endpoint", "https://h.example:1")):
        with pytest.raises(errors.DuplicateObject, match='node "a" of workspace "w" has this endpoint'):
            execute(session, alter.format(option, taken))
    with pytest.raises(errors.InvalidParameterValue, match="backup_endpoint is the endpoint itself"):
        execute(session, alter.format("backup_endpoint", "https://I.example:1/"))
    with pytest.raises(errors.InvalidParameterValue, match="backup_endpoint"):
        execute(session, alter.format("backup_endpoint", "http://i.example:2"))
    shown = session.execute("SELECT endpoint_in_use FROM federated_node_diagnostics WHERE node_name = 'a'")
    assert shown.fetchone() == ("https://h.example:1",)


def test_during_a_rotation_a_node_is_registered_with_two_certificates(session: psycopg.Connection) -> None:
    authority = Authority.create("authority")
    old, new = (authority.issue("n", ["h"]).certificate_pem.decode() for _ in range(2))
    register = (
        "REGISTER FEDERATED NODE 'n' IN WORKSPACE w WITH (endpoint = 'https://h:1', certificate = '{}')"
    )
    execute(session, "CREATE FEDERATED WORKSPACE w", register.format(old + new))
    with pytest.raises(errors.InvalidParameterValue, match="not a certificate in PEM form"):
        execute(session, f"ALTER FEDERATED NODE 'n' IN WORKSPACE w SET (certificate = '{old} and {new}')")


def test_what_grpc_cannot_do_is_refused_with_the_reason(session: psycopg.Connection) -> None:
    for option, reason in (
        ("tcp_nodelay", "gRPC sets TCP_NODELAY"),
        ("batch_communication", "one signed header"),
    ):
        with pytest.raises(errors.FeatureNotSupported) as caught:
            execute(session, f"CREATE FEDERATED WORKSPACE w WITH ({option} = false)")
        assert reason in (caught.value.diag.message_detail or "")


@pytest.mark.parametrize(
    ("certificate", "message"),
    [
        ("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n", "holds a private key"),
        ("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0",
         "holds a private key"),
        ("-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----", "not a certificate in PEM form"),
        ("-----BEGIN CERTIFICATE-----\nMAA=c2VjcmV0", "not a certificate in PEM form"),
        ("-----BEGIN CERTIFICATE-----\nM*c2VjcmV0\n-----END CERTIFICATE-----", "not a certificate in PEM form"),
    ],
)  # fmt: skip
def test_a_certificate_option_that_is_none_is_refused_and_not_repeated(
    session: psycopg.Connection, certificate: str, message: str
) -> None:
    execute(session, WORKSPACE, NODE)
    for statement in (
        "REGISTER FEDERATED NODE 'n' IN WORKSPACE clinics WITH (endpoint = 'https://h:1', certificate = '{}')",
        "ALTER FEDERATED NODE 'clinic_a' IN WORKSPACE clinics SET (certificate = '{}')",
    ):
        with pytest.raises(errors.InvalidParameterValue, match=message) as caught:
            execute(session, statement.format(certificate))
        diagnostic = caught.value.diag
        assert (
            "c2VjcmV0"
            not in f"{diagnostic.message_primary}{diagnostic.message_detail}{diagnostic.message_hint}"
        )
    execute(
        session,
        "ALTER FEDERATED NODE 'clinic_a' IN WORKSPACE clinics"
        " SET (certificate = '-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n')",
    )


def test_what_depends_on_a_workspace_is_named_in_quotes(session: psycopg.Connection) -> None:
    execute(session, WORKSPACE, NODE, MODEL)
    with pytest.raises(errors.DependentObjectsStillExist) as caught:
        execute(session, "DROP FEDERATED WORKSPACE clinics")
    assert caught.value.diag.message_detail == 'federated model "risk"\nfederated node "clinic_a"'


def test_an_untrained_model_is_a_function_that_says_so(session: psycopg.Connection) -> None:
    execute(session, WORKSPACE, MODEL)
    for call in (
        "federated_model.risk(age => 55, bmi => 28.5)",
        """federated_predict('risk', '{"age": 55}'::jsonb)""",
        "predict('risk', ARRAY[55, 28.5])",
    ):
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="has no trained version"):
            session.execute(f"SELECT {call}")
    execute(session, "ALTER FEDERATED MODEL risk SET (features = ['age', 'pulse'])")
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        session.execute("SELECT federated_model.risk(pulse => 70)")


def test_drop_model_with_a_dependent_view_needs_cascade(session: psycopg.Connection) -> None:
    execute(session, WORKSPACE, MODEL)
    session.execute("CREATE VIEW scored AS SELECT federated_model.risk(age => 1) AS p")
    with pytest.raises(errors.DependentObjectsStillExist) as caught:
        execute(session, "DROP FEDERATED MODEL risk")
    assert "scored" in (caught.value.diag.message_detail or "")
    assert fetch(session, "SELECT count(*) FROM federated.model") == [(1,)]
    execute(session, "DROP FEDERATED MODEL risk CASCADE")
    assert fetch(session, "SELECT to_regclass('scored') IS NULL, count(*) FROM federated.model") == [
        (True, 0)
    ]


def test_a_dataset_without_a_subject_says_what_is_one(session: psycopg.Connection) -> None:
    said: list[str] = []
    session.add_notice_handler(lambda one: said.append(f"{one.severity}: {one.message_primary}"))
    session.execute("CREATE TABLE t (a int, person text)")

    execute(session, "CREATE FEDERATED DATASET d FOR TABLE t IN WORKSPACE w")
    (notice,) = said
    assert notice.startswith("NOTICE: every row counts as a data subject of its own")
    assert "subject = 'column'" in notice

    execute(session, "CREATE FEDERATED DATASET e FOR TABLE t IN WORKSPACE w WITH (subject = 'person')")
    assert said == [notice]


def test_dataset_is_a_view_that_the_reader_may_read_and_nothing_else(
    cluster: Cluster, federated_database: str, session: psycopg.Connection
) -> None:
    session.execute("CREATE SCHEMA clinic")
    session.execute(
        "CREATE TABLE clinic.patients (id int, person text, age int, bmi float8, secret text, outcome bool)"
    )
    session.execute(
        "INSERT INTO clinic.patients VALUES (1, 'p1', 50, 22.5, 's', true), (2, 'p2', 17, 20, 's', false)"
    )
    session.execute("SET search_path = clinic, public")
    execute(
        session,
        "CREATE FEDERATED DATASET adults FOR TABLE patients (age, bmi, outcome) WHERE (age >= 18) IN WORKSPACE clinics"
        " WITH (subject = 'person', min_rows = 1)",
    )
    assert fetch(session, "SELECT workspace, relation, columns, types FROM federated.dataset") == [
        ("clinics", "clinic.patients", ["age", "bmi", "outcome"], ["integer", "double precision", "boolean"])
    ]
    with cluster.connect(federated_database, user="heliosdb_reader") as reader:
        assert fetch(reader, "SELECT * FROM federated_dataset.adults") == [(50, 22.5, True, "p1")]
        with pytest.raises(errors.InsufficientPrivilege):
            reader.execute("SELECT * FROM clinic.patients")
        with pytest.raises(errors.InsufficientPrivilege):
            reader.execute("SELECT * FROM federated.spending")
    execute(session, "DROP FEDERATED DATASET adults")
    assert fetch(session, "SELECT to_regclass('federated_dataset.adults')") == [(None,)]
    changes = fetch(session, "SELECT action, details FROM federated.audit WHERE object_kind = 'dataset'")
    assert [(action, *details) for action, details in changes] == [("insert", "after"), ("delete", "before")]
    for action, side in (("insert", "after"), ("delete", "before")):
        shared = dict(changes)[action][side]
        assert (shared["relation"], shared["columns"]) == ("clinic.patients", ["age", "bmi", "outcome"])
        assert (shared["predicate"].strip("( )"), shared["owner"]) == ("age >= 18", "postgres")


@pytest.mark.parametrize(
    ("statement", "sqlstate"),
    [
        ("CREATE FEDERATED DATASET d FOR TABLE missing IN WORKSPACE w", "42P01"),
        ("CREATE FEDERATED DATASET d FOR TABLE t (nothing) IN WORKSPACE w", "42703"),
        ("CREATE FEDERATED DATASET d FOR TABLE t IN WORKSPACE w WITH (subject = 'nobody')", "42703"),
        ("CREATE FEDERATED DATASET d FOR TABLE t WHERE (nothing > 1) IN WORKSPACE w", "42703"),
        ("CREATE FEDERATED DATASET d FOR TABLE t WHERE (true) ; DROP TABLE t; --) IN WORKSPACE w", "42601"),
        ("CREATE FEDERATED DATASET d FOR TABLE t WHERE (true) UNION SELECT 1 --) IN WORKSPACE w", "42601"),
        ("DROP FEDERATED DATASET nothing", "42704"),
    ],
)
def test_bad_datasets_leave_nothing_behind(
    session: psycopg.Connection, statement: str, sqlstate: str
) -> None:
    session.execute("CREATE TABLE t (a int)")
    with pytest.raises(psycopg.Error) as caught:
        execute(session, statement)
    assert caught.value.sqlstate == sqlstate
    assert fetch(session, "SELECT count(*) FROM federated.dataset") == [(0,)]
    assert fetch(
        session, "SELECT to_regclass('t') IS NOT NULL, to_regclass('federated_dataset.d') IS NULL"
    ) == [(True, True)]


@pytest.mark.parametrize("role", ["a_nobody", "an_analyst", "an_auditor"])
def test_who_may_not_learns_nothing(
    cluster: Cluster, federated_database: str, session: psycopg.Connection, role: str
) -> None:
    execute(session, WORKSPACE, MODEL)
    with cluster.connect(federated_database, user=role) as other:
        for statement in ("DROP FEDERATED MODEL risk", "DROP FEDERATED MODEL nothing"):
            with pytest.raises(errors.InsufficientPrivilege) as caught:
                execute(other, statement)
            assert "risk" not in str(caught.value)
        with pytest.raises(errors.InsufficientPrivilege):
            other.execute("DELETE FROM federated.model")


def test_operators_train_and_admins_administer(
    cluster: Cluster, federated_database: str, session: psycopg.Connection
) -> None:
    session.execute("CREATE TABLE t (a float8, b bool)")
    session.execute("GRANT SELECT ON t TO an_admin")
    with cluster.connect(federated_database, user="an_admin") as admin:
        execute(
            admin,
            WORKSPACE,
            NODE,
            "ALTER FEDERATED WORKSPACE clinics SET (min_nodes = 2)",
            "ALTER FEDERATED NODE 'clinic_a' IN WORKSPACE clinics SET (contact = 'dba')",
            "CREATE FEDERATED DATASET d FOR TABLE t IN WORKSPACE clinics",
        )
    with cluster.connect(federated_database, user="an_operator") as operator:
        with pytest.raises(
            errors.InsufficientPrivilege, match="permission denied to create a federated workspace"
        ):
            execute(operator, "CREATE FEDERATED WORKSPACE other")
        execute(operator, MODEL, "ALTER FEDERATED MODEL risk SET (rounds = 2)", "START FEDERATED TRAINING risk",
                "STOP FEDERATED TRAINING risk")  # fmt: skip
    with cluster.connect(federated_database, user="an_analyst") as analyst:
        assert fetch(analyst, "SELECT total_epsilon, consumed_epsilon, remaining_epsilon"
                              " FROM federated_privacy_budget('clinics')") == [(0.5, 0.0, 0.5)]  # fmt: skip
        assert fetch(analyst, "SELECT node_name, status FROM federated_node_status") == [
            ("clinic_a", "pending")
        ]
    actors = fetch(session, "SELECT DISTINCT acting_role FROM federated.audit ORDER BY 1")
    assert actors == [("an_admin",), ("an_operator",)]


def test_hostile_names_are_stored_as_text(session: psycopg.Connection) -> None:
    execute(session, "CREATE FEDERATED WORKSPACE w")
    hostile = ["x'); DROP TABLE federated.run; --", 'a"b', "%s %I", "$$", "$1", "ünï", "; SELECT 1"]
    for name in hostile:
        quoted = '"' + name.replace('"', '""') + '"'
        feature = name.replace("'", "''")
        execute(
            session,
            f"CREATE FEDERATED MODEL {quoted} WITH (features = ['{feature}'], target = 'target column')",
        )
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            session.execute("SELECT predict(%s, ARRAY[1.0]::float8[])", [name])
    assert {name for (name,) in fetch(session, "SELECT name FROM federated.model")} == set(hostile)
    for name in hostile:
        quoted = '"' + name.replace('"', '""') + '"'
        execute(session, f"DROP FEDERATED MODEL {quoted}")
    assert fetch(
        session, "SELECT count(*) FROM pg_proc WHERE pronamespace = 'federated_model'::regnamespace"
    ) == [(0,)]


def test_drop_extension_leaves_nothing_where_nothing_depends_on_it(session: psycopg.Connection) -> None:
    session.execute("DROP EXTENSION heliosdb_federated_learning CASCADE")
    assert fetch(session, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'federated%'") == [(0,)]
    assert fetch(session, "SELECT count(*) FROM pg_proc WHERE proname LIKE 'federated%'") == [(0,)]


def test_a_charge_in_the_ledger_is_taken_back_by_nobody(cluster: Cluster, federated_database: str) -> None:
    with cluster.connect(federated_database, user="heliosdb_daemon") as daemon:
        for total, state in enumerate(("reserved", "charged"), 1):
            daemon.execute(
                "INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name, state,"
                " noise_multiplier, sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight)"
                " VALUES ('w', gen_random_uuid(), 'm', 0, 'statistics', 'n', %s, 1, 1, 1, 1, %s, 1)",
                [state, total],
            )
        daemon.execute("DELETE FROM federated.ledger WHERE state = 'reserved'")
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="never taken back"):
            daemon.execute("DELETE FROM federated.ledger")
        assert fetch(daemon, "SELECT state::text FROM federated.ledger") == [("charged",)]

"""Models of columns of every kind predict in SQL what the encoding and numpy say, in every form of a call."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import errors, sql
from psycopg.types.json import Jsonb

from heliosdb.algorithms.sql import LinearPrediction
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.prediction import Prediction
from heliosdb.scoring.session import make_version
from tests.support.cluster import Cluster
from tests.support.encoded_model import (
    CALL,
    COLUMNS,
    ENCODING,
    linear,
    make_patients,
    reference,
    rows,
    slots,
    softmax,
)
from tests.support.publication import publish_prediction

SAME_HASH = '!c1xnDC"!M;V'
"""Has the hash of "red"."""


@pytest.fixture
def world(cluster: Cluster, catalog: psycopg.Connection) -> Iterator[tuple[Cluster, psycopg.Connection]]:
    """A table of patients, and a model of all of its columns."""
    make_patients(catalog)
    catalog.execute("SET TimeZone = 'Asia/Tokyo'")
    yield cluster, catalog


def publish(
    world: tuple[Cluster, psycopg.Connection], prediction: Prediction, encoding: Encoding = ENCODING
) -> None:
    cluster, catalog = world
    published = publish_prediction(cluster, catalog.info.dbname, "stay", prediction, encoding)
    assert published.obstacle is None


def column(session: psycopg.Connection, query: str | sql.Composed) -> list[Any]:
    return [value for (value,) in session.execute(query).fetchall()]  # type: ignore[arg-type]


JSON = "to_jsonb(p) - '{id,other}'::text[]"
FORMS = {
    "named arguments": f"SELECT federated_model.stay({CALL}) FROM patients AS p ORDER BY id",
    "JSON": f"SELECT federated_predict('stay', {JSON}) FROM patients AS p ORDER BY id",
    "JSON, of a version": f"SELECT federated_predict('stay@001', {JSON}) FROM patients AS p ORDER BY id",
    "a row": "SELECT predict('stay', p) FROM patients AS p ORDER BY id",
    "a row in FROM": 'SELECT y FROM patients AS p, federated_row.stay(p) AS y ORDER BY id',
    "a batch": "SELECT prediction FROM federated_predict_batch('stay', 'SELECT * FROM patients ORDER BY id')"
    ' AS (id integer, age numeric, income float8, bmi real, smoker boolean, site text, "Ward" char(4),'
    " seen timestamptz, stay interval, v float8[], other text, prediction float8)",
}  # fmt: skip


@pytest.mark.parametrize("link", ["identity", "logistic", "exp"])
def test_every_form_predicts_what_numpy_does(world: tuple[Cluster, psycopg.Connection], link: str) -> None:
    _, catalog = world
    publish(world, linear(link))
    expected = reference(linear(link), rows())
    for name, query in FORMS.items():
        if "a row" in name or name.startswith("JSON"):
            # JSON of char(4) has its padding; a level has not.
            catalog.execute('ALTER TABLE patients ALTER "Ward" TYPE varchar USING rtrim("Ward")')
        found = column(catalog, query.replace("char(4)", "varchar") if name == "a batch" else query)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=name)


def test_what_numpy_computes_reads_arrays_of_one_dimension_wherever_they_begin(
    catalog: psycopg.Connection,
) -> None:
    ((elsewhere, shorter, none),) = catalog.execute(
        "SELECT federated._elements('[5:7]={1,NULL,3}', 3), federated._elements('[0:0]={1}', 2),"
        " federated._elements(NULL, 1)"
    )
    np.testing.assert_array_equal(elsewhere, [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(shorter, [1.0, np.nan])
    np.testing.assert_array_equal(none, [np.nan])
    with pytest.raises(errors.InvalidParameterValue, match="an array of one dimension, not of 2") as caught:
        catalog.execute("SELECT federated._elements('{{1,2,3}}', 3)")
    assert caught.value.diag.message_hint == "Of series each channel is a feature of its own."


@pytest.mark.parametrize("count", [0, 1, 2, 500])
def test_levels_are_found_as_text_is_compared_also_where_hashes_are_others(
    catalog: psycopg.Connection, count: int
) -> None:
    levels = ["", "a", *(f"it's {{\\ü}} {number}" for number in range(2, count))][:count]
    [rendered] = column(
        catalog,
        sql.SQL("SELECT federated._render_lookup('v', {}::text[], {}::float8[], -1, -2)").format(
            levels, [float(place) for place in range(count)]
        ),
    )
    hashed = re.search(r"OPERATOR\(pg_catalog.=\) '(-?\d+)'", rendered)
    assert (hashed is None) == (count == 0)
    elsewhere = rendered if hashed is None else rendered.replace(f"'{hashed[1]}'", "'1'")
    values = [*levels, None, "A", "a ", " ", "it's", "it's {\\ü} 500", "NULL"]
    expected = [
        -1.0 if value is None else levels.index(value) if value in levels else -2.0 for value in values
    ]
    for expression in (rendered, elsewhere):
        query = f"SELECT {expression} FROM unnest(%s::text[]) WITH ORDINALITY AS t (v, place) ORDER BY place"
        found = catalog.execute(query.replace("%", "%%").replace("%%s", "%s"), [values]).fetchall()  # type: ignore[arg-type]
        assert [number for (number,) in found] == expected


def test_a_linear_call_is_inlined_with_each_argument_of_a_row_by_name(
    world: tuple[Cluster, psycopg.Connection],
) -> None:
    _, catalog = world
    publish(world, linear("logistic"))
    for query in (FORMS["named arguments"], FORMS["a row in FROM"]):
        plan = "\n".join(column(catalog, f"EXPLAIN (VERBOSE, COSTS OFF) {query}"))
        assert "federated" not in plan, plan
        assert "Function Scan" not in plan, plan


def test_a_level_made_up_to_have_the_hash_of_another_does_not_take_its_place(
    cluster: Cluster, catalog: psycopg.Connection
) -> None:
    """Texts of a given hash are found in seconds, and a hostile node may name one as a level."""
    catalog.execute(
        "CALL federated.execute('CREATE FEDERATED MODEL tint IN WORKSPACE clinics WITH"
        " (algorithm = ''linear_regression'', features = [''colour''], target = ''y'')')"
    )
    [(same,)] = catalog.execute(
        "SELECT hashtextextended(%s, 0) = hashtextextended('red', 0)", [SAME_HASH]
    ).fetchall()
    assert same
    for levels in (("blue", "red", SAME_HASH), (SAME_HASH, "blue", "red")):
        colour = ColumnEncoding("colour", ColumnKind.CATEGORY, "indicators", levels=levels, other_level=True)
        content = LinearPrediction(1.0, (1.0, 2.0, 3.0), (7.0,) * 3, (0.0,) * 3, "identity")
        publish_prediction(cluster, catalog.info.dbname, "tint", content.to_prediction(), Encoding((colour,)))
        found = [
            catalog.execute("SELECT federated_model.tint(colour => %s)", [text]).fetchone()
            for text in (*levels, "further", None)
        ]
        assert found == [(1.0,), (2.0,), (3.0,), (4.0,), (43.0,)]


def test_several_classes_have_probabilities_a_label_and_no_number(
    world: tuple[Cluster, psycopg.Connection],
) -> None:
    _, catalog = world
    encoding = Encoding(COLUMNS, ("low", "it's", "high"))
    publish(world, softmax(3), encoding)
    catalog.execute('ALTER TABLE patients ALTER "Ward" TYPE varchar USING rtrim("Ward")')
    expected = reference(softmax(3), rows())
    labels = [encoding.classes[place] for place in expected.argmax(axis=1)]
    assert len(set(labels)) > 1
    for query in (
        f"SELECT federated_proba.stay({CALL}) FROM patients AS p ORDER BY id",
        "SELECT y FROM patients AS p, federated_proba.stay(p) AS y ORDER BY id",
        f"SELECT federated_proba.stay({JSON}, false) FROM patients AS p ORDER BY id",
    ):
        np.testing.assert_allclose(column(catalog, query), expected, rtol=1e-9, atol=1e-12)
    for name in ("stay", "stay@1", "stay@01"):
        shares = column(
            catalog, f"SELECT federated_predict_proba('{name}', {JSON}) FROM patients AS p ORDER BY id"
        )
        np.testing.assert_allclose(
            [[one[label] for label in encoding.classes] for one in shares], expected, rtol=1e-9
        )
        found = column(
            catalog, f"SELECT federated_predict_class('{name}', {JSON}) FROM patients AS p ORDER BY id"
        )
        assert found == labels
    batch = FORMS["a batch"].replace("prediction float8", "prediction text").replace("char(4)", "varchar")
    assert column(catalog, batch) == labels
    for call in ("federated_predict('stay', '{}')", "federated_model.stay(age => 1)", "predict('stay', p)",
                 "y FROM patients AS p, federated_row.stay(p) AS y", "federated_predict('stay@1')"):  # fmt: skip
        with pytest.raises(errors.ObjectNotInPrerequisiteState) as caught:
            catalog.execute(f"SELECT {call}" + ("" if "FROM" in call else " FROM patients AS p"))  # type: ignore[arg-type]
        assert "one of several classes" in str(caught.value)
        assert caught.value.diag.message_hint == "Use federated_predict_class or federated_predict_proba."
    # A number is predicted again, and what was there for classes is gone.
    publish(world, linear("exp"))
    assert column(catalog, "SELECT federated_predict('stay', '{}')") == pytest.approx(
        reference(linear("exp"), rows()[:1])
    )
    assert column(catalog, "SELECT count(*) FROM pg_proc WHERE pronamespace = 'federated_proba'::regnamespace"
                           " AND proname = 'stay'") == [0]  # fmt: skip


MANY = tuple(f"x{number}" for number in range(150))
WIDE_TYPES = {0: "boolean", 1: "date", 2: "interval", 3: "text", 4: "real[]"}
LEVELS = ("a", "b", "c")


def make_wide(catalog: psycopg.Connection) -> Encoding:
    """A model of more features than a function has arguments, some of each kind, and a table that has them."""
    kinds = {0: ColumnKind.BOOLEAN, 1: ColumnKind.TIME, 2: ColumnKind.INTERVAL}
    columns = [ColumnEncoding(name, kinds.get(place, ColumnKind.NUMBER)) for place, name in enumerate(MANY)]
    columns[3] = ColumnEncoding("x3", ColumnKind.CATEGORY, "indicators", levels=LEVELS, other_level=True)
    columns[4] = ColumnEncoding("x4", ColumnKind.ARRAY, elements=20)
    catalog.execute(
        "CREATE TABLE wide (id integer, "  # type: ignore[arg-type]
        + ", ".join(f"{name} {WIDE_TYPES.get(place, 'float8')}" for place, name in enumerate(MANY))
        + ")"
    )
    values = {0: "i % 2 = 0", 1: "date '2020-02-01' + i", 2: "i * interval '1 hour'", 3: "(ARRAY['a','b','c','d'])[i]",
              4: "ARRAY(SELECT (i * j)::real / 8 FROM generate_series(1, 20) AS j)"}  # fmt: skip
    for place in range(5, 150):
        values[place] = "NULL" if place % 7 == 0 else f"i / {place}.0"
    catalog.execute(
        "INSERT INTO wide SELECT i, "
        + ", ".join(values[p] for p in range(150))
        + " FROM generate_series(1, 4) AS i"  # type: ignore[arg-type]
    )
    catalog.execute("GRANT SELECT ON wide TO federated_analyst")
    quoted = ", ".join(f"'{name}'" for name in MANY)
    catalog.execute(
        "CALL federated.execute(%s)",
        [f"CREATE FEDERATED MODEL wide IN WORKSPACE clinics WITH (algorithm = 'linear_regression',"
         f" features = [{quoted}], target = 'outcome')"],
    )  # fmt: skip
    return Encoding(tuple(columns))


def wide_slots(encoding: Encoding) -> list[list[float]]:
    made = []
    for i in range(1, 5):
        row: dict[str, Any] = {
            name: None if place % 7 == 0 else i / place for place, name in enumerate(MANY) if place > 4
        }
        row |= {"x0": i % 2 == 0, "x1": datetime(2020, 2, 1 + i, tzinfo=UTC), "x2": timedelta(hours=i), "x3": "abcd"[i - 1],
                "x4": [i * j / 8 for j in range(1, 21)]}  # fmt: skip
        made.append(slots(row, encoding.columns))
    return made


def test_more_features_than_a_function_has_arguments_are_predicted_by_numpy(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> None:
    encoding = make_wide(catalog)
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="no trained version"):
        catalog.execute("SELECT federated_model.wide()")
    prediction = linear("identity", encoding)
    given = wide_slots(encoding)
    expected = make_version(prediction.content, {}, encoding).predict(np.array(given))
    assert publish_prediction(cluster, federated_database, "wide", prediction, encoding).obstacle is None
    features = ", ".join(MANY)
    with cluster.connect(federated_database, user="an_analyst") as analyst:
        for query in (
            "SELECT predict('wide', p) FROM wide AS p ORDER BY id",
            "SELECT predict('wide@01', p) FROM wide AS p ORDER BY id",
            "SELECT y FROM wide AS p, federated_row.wide(p) AS y ORDER BY id",
            "SELECT federated_predict('wide', to_jsonb(p) - 'id') FROM wide AS p ORDER BY id",
            "SELECT prediction FROM federated_predict_batch('wide',"
            f" 'SELECT {features} FROM wide ORDER BY id') AS ("
            + ", ".join(f"{name} {WIDE_TYPES.get(place, 'float8')}" for place, name in enumerate(MANY))
            + ", prediction float8)",
        ):
            np.testing.assert_allclose(column(analyst, query), expected, rtol=1e-9, err_msg=query)
        for one, wanted in zip(given, expected, strict=True):
            [(found,)] = analyst.execute(
                "SELECT federated_model.wide(%s::float8[])", [[None if math.isnan(x) else x for x in one]]
            ).fetchall()
            assert found == pytest.approx(wanted, rel=1e-9)
        with pytest.raises(
            errors.InvalidParameterValue, match='feature "x3" of federated model "wide" is text'
        ):
            analyst.execute("SELECT predict('wide', %s::float8[])", [given[0]])


def test_what_numpy_computes_runs_in_parallel_for_who_may_call_it_and_in_blocks(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> None:
    elements = 1200
    encoding = Encoding((ColumnEncoding("v", ColumnKind.ARRAY, elements=elements),))
    catalog.execute(
        "CALL federated.execute('CREATE FEDERATED MODEL dense IN WORKSPACE clinics WITH (algorithm ="
        " ''linear_regression'', features = [''v''], target = ''outcome'')')"
    )
    count = (1.0,) * elements
    zeros = (0.0,) * elements
    sums = LinearPrediction(0.0, count, zeros, zeros, "identity").to_prediction()
    assert publish_prediction(cluster, federated_database, "dense", sums, encoding).obstacle is None
    catalog.execute(
        "CREATE TABLE vectors AS SELECT i, array_fill(i::real, ARRAY[1200]) AS v FROM generate_series(1, 30) AS i;"
        "GRANT SELECT ON vectors TO PUBLIC; GRANT USAGE ON SCHEMA federated_model TO a_nobody;"
        "GRANT EXECUTE ON FUNCTION federated_model.dense TO a_nobody"
    )
    expected = [1200.0 * i for i in range(1, 31)]
    with cluster.connect(federated_database, user="a_nobody") as nobody:
        nobody.execute(
            "SET force_parallel_mode = on; SET parallel_setup_cost = 0; SET min_parallel_table_scan_size = 0"
        )
        query = "SELECT federated_model.dense(v => v::float8[]) FROM vectors ORDER BY i"
        assert column(nobody, query) == expected
        with pytest.raises(errors.InsufficientPrivilege):
            nobody.execute("SELECT federated._score_block('x', '')")
    catalog.execute(
        "INSERT INTO vectors SELECT i, array_fill(i::real, ARRAY[1200]) FROM generate_series(31, 8192) AS i"
    )
    for most in (0, 1, 4095, 4096, 4097, 8192):
        rows_ = catalog.execute(
            "SELECT i, prediction FROM federated_predict_batch('dense', %s) AS (i integer, v real[], prediction float8)",
            [f"SELECT * FROM vectors WHERE i <= {most} ORDER BY i DESC"],
        ).fetchall()
        assert rows_ == [(i, 1200.0 * i) for i in range(most, 0, -1)]


HOSTILE_LEVELS = (
    "", " ", "'", "''", '"', "\\", "\\'", "E'\\''", "%", "%s", "%1$L", "$1", "$$", "$body$", "{}", "NULL", "other", "--", "/*",
    ";", "'; DROP TABLE patients; --", "\n", "\t\r\n", "\x01\x7f", "\u2028", "\ufeff", "\U0001f600", "a" * 120, "\u00e4" * 60,
)  # fmt: skip
"""Such as a hostile node may name, or an honest patient's row may hold."""

HOSTILE_NAMES = ('we"ird', "na'me", "back\\slash", "per%cent %s $1", "Gr\u00f6\u00dfe", "select")


@pytest.mark.parametrize("by_numpy", [False, True])
def test_levels_and_names_are_text_and_never_code(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, *, by_numpy: bool
) -> None:
    levels = tuple(sorted(HOSTILE_LEVELS, key=str.encode))
    columns = [
        ColumnEncoding(name, ColumnKind.CATEGORY, "indicators", levels, null_level=True, other_level=True)
        for name in HOSTILE_NAMES
    ]
    if by_numpy:
        columns.append(ColumnEncoding("v", ColumnKind.ARRAY, elements=1_001))
    encoding = Encoding(tuple(columns))
    names = [column.column for column in columns]
    quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
    catalog.execute(
        "CALL federated.execute(%s)",
        ["CREATE FEDERATED MODEL odd IN WORKSPACE clinics WITH (algorithm = 'linear_regression',"
         f" features = [{quoted}], target = 'outcome')"],
    )  # fmt: skip
    prediction = linear("identity", encoding)
    assert publish_prediction(cluster, federated_database, "odd", prediction, encoding).obstacle is None
    version = make_version(prediction.content, {}, encoding)
    given = [*levels, "unheard of", None]
    for place, value in enumerate(given):
        row: dict[str, Any] = {
            name: given[(place + shift) % len(given)] for shift, name in enumerate(HOSTILE_NAMES)
        }
        if by_numpy:
            row["v"] = [0.5] * 1_001
        expected = version.predict(np.array([slots(row, columns)]))[0]
        found = catalog.execute("SELECT federated_predict('odd', %s::jsonb)", [Jsonb(row)]).fetchall()
        assert found == [(pytest.approx(expected, rel=1e-9),)], value


HIJACK = """
CREATE SCHEMA evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE FUNCTION evil.array_send(float8[]) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION evil.date_part(text, timestamp) RETURNS float8 LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION evil.date_part(text, interval) RETURNS float8 LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION evil.same(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION evil.joined(float8[], float8[]) RETURNS float8[] LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION evil.divided(float8, float8) RETURNS float8 LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION evil.divided(float8, integer) RETURNS float8 LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.same);
CREATE OPERATOR evil.|| (LEFTARG = float8[], RIGHTARG = float8[], FUNCTION = evil.joined);
CREATE OPERATOR evil./ (LEFTARG = float8, RIGHTARG = float8, FUNCTION = evil.divided);
CREATE OPERATOR evil./ (LEFTARG = float8, RIGHTARG = integer, FUNCTION = evil.divided);
CREATE DOMAIN evil.float8 AS pg_catalog.float8 CHECK (VALUE < -1e299);
CREATE DOMAIN evil.int4 AS pg_catalog.int4 CHECK (VALUE < -1000000);
CREATE COLLATION evil."C" FROM "POSIX";
SET search_path = evil, pg_catalog;
"""


def test_what_runs_as_the_owner_finds_nothing_in_its_callers_search_path(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> None:
    columns = (
        ColumnEncoding("federated"),
        ColumnEncoding("found", ColumnKind.BOOLEAN),
        ColumnEncoding("seen", ColumnKind.TIME),
        ColumnEncoding("stay", ColumnKind.INTERVAL),
        ColumnEncoding("site", ColumnKind.CATEGORY, "indicators", ("a", "b"), null_level=True),
        ColumnEncoding("v", ColumnKind.ARRAY, elements=1_001),
    )
    quoted = ", ".join(f"'{column.column}'" for column in columns)
    catalog.execute(
        "CALL federated.execute(%s)",
        ["CREATE FEDERATED MODEL safe IN WORKSPACE clinics WITH (algorithm = 'linear_regression',"
         f" features = [{quoted}], target = 'outcome')"],
    )  # fmt: skip
    prediction, encoding = linear("identity", Encoding(columns)), Encoding(columns)
    assert publish_prediction(cluster, federated_database, "safe", prediction, encoding).obstacle is None
    row = {
        "federated": 1.5, "found": True, "seen": datetime(2024, 2, 29, tzinfo=UTC), "stay": timedelta(hours=7),
        "site": "b", "v": [0.25] * 1_001,
    }  # fmt: skip
    version = make_version(prediction.content, {}, encoding)
    expected = version.predict(np.array([slots(row, columns)]))[0]
    catalog.execute(HIJACK)
    call = (
        "SELECT federated_model.safe(1.5::pg_catalog.float8, true, '2024-02-29', '7 hours', 'b',"
        " pg_catalog.array_fill(0.25::pg_catalog.float8, '{1001}'))"
    )

    assert catalog.execute(
        "SELECT prosecdef FROM pg_catalog.pg_proc WHERE proname OPERATOR(pg_catalog.=) 'safe'"
        " AND pronamespace OPERATOR(pg_catalog.=) 'federated_model'::pg_catalog.regnamespace::pg_catalog.oid"
    ).fetchall() == [(True,)]
    for _ in range(2):
        [(found,)] = catalog.execute(call).fetchall()
        assert found == pytest.approx(expected, rel=1e-9)

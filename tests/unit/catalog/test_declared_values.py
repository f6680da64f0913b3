"""Which values a CHECK declares, read from what PostgreSQL prints of it (tests/integration/node has the server's own)."""

from __future__ import annotations

import pytest

from heliosdb.catalog.declared import declared_values


@pytest.mark.parametrize(
    ("definition", "column", "kind", "values"),
    [
        ("CHECK ((c = ANY (ARRAY[0, 1])))", "c", "integer", ("0", "1")),
        ("CHECK ((c = ANY (ARRAY['-1'::integer, 1])))", "c", "integer", ("-1", "1")),
        ("CHECK ((c = ANY (ARRAY[(1)::numeric, (2)::numeric])))", "c", "numeric", ("1", "2")),
        ("CHECK ((c = ANY (ARRAY[('-1'::integer)::numeric, 1.5])))", "c", "numeric", ("-1", "1.5")),
        ("CHECK (((c)::text = ANY ((ARRAY['a'::character varying, 'it''s'::character varying])::text[])))",
         "c", "character varying", ("a", "it's")),
        ("CHECK ((VALUE = ANY (ARRAY[1, 2, 2])))", "VALUE", "integer", ("1", "2")),
        ('CHECK (("Class" = ANY (ARRAY[1, 2])))', '"Class"', "integer", ("1", "2")),
        ("CHECK (((c >= 0) AND (c <= 1)))", "c", "bigint", ("0", "1")),
        ("CHECK (((c = 0) OR (c = 1)))", "c", "integer", ("0", "1")),
        ("CHECK ((c = 1))", "c", "integer", ("1",)),
        ("CHECK (((c)::numeric = ANY (ARRAY[0.0, 1.0])))", "c", "smallint", ("0.0", "1.0")),
        ("CHECK (((c)::bigint = ANY (ARRAY[(0)::bigint, (1)::bigint])))", "c", "integer", ("0", "1")),
        ("CHECK (((c)::double precision = ANY (ARRAY[(0)::double precision, (1)::double precision])))",
         "c", "real", ("0", "1")),
    ],
)  # fmt: skip
def test_lists_are_read_as_they_are_printed(
    definition: str, column: str, kind: str, values: tuple[str, ...]
) -> None:
    assert declared_values(definition, column, kind) == values


@pytest.mark.parametrize(
    ("definition", "kind"),
    [
        ("CHECK (((c >= (0)::double precision) AND (c <= (1)::double precision)))", "double precision"),
        ("CHECK (((c >= 0) AND (c <= 1)))", "numeric"),
        ("CHECK (((c >= 0) AND (c <= 999999999)))", "integer"),
        ("CHECK (((c = ANY (ARRAY[0, 1])) OR (d > 3)))", "integer"),
        ("CHECK ((c <> ALL (ARRAY[0, 1])))", "integer"),
        ("CHECK ((d = ANY (ARRAY[0, 1])))", "integer"),
        ("CHECK ((c = ANY (ARRAY[0, d])))", "integer"),
        ("CHECK ((c = ANY (ARRAY[0, 1]))) NOT VALID", "integer"),
        ("CHECK (((c = 0) AND (c = 1)))", "integer"),
        ("CHECK ((c > 0))", "integer"),
        ("CHECK (((c)::integer = ANY (ARRAY[0, 1])))", "double precision"),
        ("CHECK ((((c)::integer = 0) OR ((c)::integer = 1)))", "numeric"),
        ("CHECK (((c)::real = ANY (ARRAY[(0)::real, (1)::real])))", "double precision"),
        ("CHECK (((c)::numeric(2,0) = ANY (ARRAY[(0)::numeric, (1)::numeric])))", "numeric"),
        ("CHECK (((c)::character(1) = ANY (ARRAY['a'::bpchar, 'b'::bpchar])))", "text"),
        ("CHECK ((c = ANY (ARRAY[''::text, 'a'::text])))", "text"),
        (f"CHECK ((c = ANY (ARRAY[{', '.join(map(str, range(33)))}])))", "integer"),
    ],
)
def test_what_lists_no_few_values_declares_none(definition: str, kind: str) -> None:
    assert declared_values(definition, "c", kind) is None

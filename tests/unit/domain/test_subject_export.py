"""What a node hands over about a subject, and the file that is made of it."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.subject_export import (
    MOST_BYTES,
    Heading,
    HeldDataset,
    Holdings,
    NodePart,
    write_file,
)

HELD = HeldDataset(
    "patients",
    "public.patient",
    "exported",
    (
        ("patient_id", "text"),
        ("pressure", "numeric"),
        ("smoker", "boolean"),
        ("notes", "jsonb"),
        ("city", "text"),
    ),
    (
        ('"p-17"', "120.50", "true", '{"a": [1, 2]}', '"Roma, \\"EUR\\""'),
        ('"p-17"', None, "false", None, '""'),
    ),
)
HOLDINGS = Holdings("p-17", (HELD, HeldDataset("labs", "public.lab", "refused")))
HEADING = Heading(
    {"order": "0b1c", "workspace": "clinics", "pseudonym": None},
    [{"node": "east", "model": "risk", "rounds": 3}, {"node": "west", "model": "risk", "rounds": 3}],
    [{"kind": "erase", "requested_at": "2026-11-30T07:00:00Z"}],
)
PARTS = (
    NodePart("east", {"state": "answered", "outcome": "exported", "message": None}, HOLDINGS),
    NodePart("west", {"state": "answered", "outcome": "exported", "message": None}, Holdings("p-17", ())),
    NodePart("south", {"state": "refused", "outcome": None, "message": 'no "exports"'}, None),
)


def written(form: str) -> str:
    return b"".join(write_file(form, HEADING, PARTS)).decode()


def test_what_is_written_is_read_back() -> None:
    assert Holdings.from_bytes(HOLDINGS.to_bytes()) == HOLDINGS


def test_sizes_of_parts_do_not_tell_how_many_rows_there_are() -> None:
    sizes = {
        len(replace(HOLDINGS, datasets=(replace(HELD, rows=HELD.rows * n),)).to_bytes()) for n in (0, 1, 200)
    }
    assert sizes == {64 * 1024}


def test_a_subject_of_whom_more_is_held_than_an_export_takes_is_refused() -> None:
    large = replace(HELD, columns=(("c", "text"),), rows=(('"' + "x" * MOST_BYTES + '"',),))
    with pytest.raises(FederatedError) as caught:
        Holdings("p", (large,)).to_bytes()
    assert caught.value.code is ErrorCode.PROGRAM_LIMIT


def changed(old: bytes, new: bytes) -> bytes:
    raw = HOLDINGS.to_bytes()
    assert old in raw
    text = raw[8 : 8 + int.from_bytes(raw[:8], "big")].replace(old, new)
    return len(text).to_bytes(8, "big") + text


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 64,
        b"\xff" * 64,
        changed(b"subject part 1", b"subject part 2"),
        changed(b'"120.50"', b'"120.50}, {"'),
        changed(b'"120.50"', b'"NaN"'),
        changed(b'"120.50"', b"120.50"),
        changed(b'"120.50"', b'"1","2"'),
        changed(b'"p-17","datasets"', b'7,"datasets"'),
        changed(b'"public.lab"', b"null"),
        changed(b'"public.lab"', b'"\\ud800"'),
        changed(b'"120.50"', b'"' + b"[" * 100_000 + b'"'),
        (30).to_bytes(8, "big") + b"[" * 30,
    ],
)
def test_what_no_node_writes_is_rejected(raw: bytes) -> None:
    with pytest.raises(FederatedError) as caught:
        Holdings.from_bytes(raw)
    assert caught.value.code is ErrorCode.UPDATE_REJECTED
    assert "p-17" not in str(caught.value)


def test_the_json_file_has_each_value_as_it_is() -> None:
    text = written("json")
    read = json.loads(text)
    assert '"pressure": 120.50' in text
    assert [one["node"] for one in read["nodes"]] == ["east", "west", "south"]
    patients, labs = read["nodes"][0]["datasets"]
    assert patients["columns"][1] == {"name": "pressure", "type": "numeric"}
    assert patients["rows"] == [
        {
            "patient_id": "p-17",
            "pressure": 120.5,
            "smoker": True,
            "notes": {"a": [1, 2]},
            "city": 'Roma, "EUR"',
        },
        {"patient_id": "p-17", "pressure": None, "smoker": False, "notes": None, "city": ""},
    ]
    assert labs == {
        "dataset": "labs",
        "relation": "public.lab",
        "action": "refused",
        "columns": [],
        "rows": [],
    }
    assert read["nodes"][2] == {
        "node": "south",
        "state": "refused",
        "outcome": None,
        "message": 'no "exports"',
        "datasets": [],
    }
    assert read["export"]["workspace"] == "clinics"
    assert read["orders"] == list(HEADING.orders)


@pytest.mark.parametrize("form", ["json", "csv"])
def test_runs_are_told_of_nodes_that_hold_the_subject_alone(form: str) -> None:
    text = written(form)
    assert (
        ("participation,east" in text)
        if form == "csv"
        else json.loads(text)["participation"] == [{"node": "east", "model": "risk", "rounds": 3}]
    )
    assert "participation,west" not in text


def test_the_csv_file_is_one_long_table() -> None:
    lines = list(csv.DictReader(io.StringIO(written("csv"))))
    assert list(lines[0]) == ["kind", "node", "dataset", "row", "name", "value"]
    rows = [(one["row"], one["name"], one["value"]) for one in lines if one["kind"] == "row"]
    assert rows[:5] == [
        ("1", "patient_id", "p-17"),
        ("1", "pressure", "120.50"),
        ("1", "smoker", "true"),
        ("1", "notes", '{"a": [1, 2]}'),
        ("1", "city", 'Roma, "EUR"'),
    ]
    assert "row,east,patients,2,pressure,\n" in written("csv"), "NULL is nothing"
    assert 'row,east,patients,2,city,""\n' in written("csv"), "an empty text is one"
    assert {"column", "dataset", "node", "export", "order"} <= {one["kind"] for one in lines}


@pytest.mark.parametrize("form", ["json", "csv"])
def test_the_same_parts_give_the_same_bytes(form: str) -> None:
    assert written(form) == written(form)

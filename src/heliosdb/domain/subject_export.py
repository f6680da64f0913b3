"""What is held about one data subject: as a node hands it over, and as the file that a subject is given.

What always holds: a node's part is of a size that tells little of what is in it; what a node sends is read as
another organisation's word, bounded and checked to the last value; the same parts under the same heading
give the same bytes, so that a file that was written and not recorded is known again.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heliosdb.domain.errors import ErrorCode, FederatedError

FORMATS = ("csv", "json")
MOST_BYTES = 16 * 1024 * 1024
"""Of what one node hands over about one subject, padding included."""

_LEAST_BYTES = 64 * 1024
_LENGTH = struct.Struct(">Q")
_PART = "heliosdb subject part 1"
_FILE = "heliosdb subject export 1"
_MOST_COLUMNS = 1_664
_CSV_COLUMNS = ("kind", "node", "dataset", "row", "name", "value")

Value = str | None
"""A value as JSON text, None for NULL: so every number keeps its digits."""


@dataclass(frozen=True, slots=True)
class HeldDataset:
    """What one shared dataset holds about a subject.

    action: exported, or why it is not (refused, not identifiable). columns: (name, SQL type). rows: a value
    for each column.
    """

    dataset: str
    relation: str
    action: str
    columns: tuple[tuple[str, str], ...] = ()
    rows: tuple[tuple[Value, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Holdings:
    """What one node holds about a subject. subject: the identifier by which it looked."""

    subject: str
    datasets: tuple[HeldDataset, ...]

    @property
    def is_any(self) -> bool:
        """Whether there is a row."""
        return any(one.rows for one in self.datasets)

    def to_bytes(self) -> bytes:
        """Write it, filled up to the next power of two; PROGRAM_LIMIT where it is more than `MOST_BYTES`."""
        document = {
            "format": _PART,
            "subject": self.subject,
            "datasets": [_written(d) for d in self.datasets],
        }
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )
        size = _LENGTH.size + len(text)
        if size > MOST_BYTES:
            raise too_much()
        filled = max(_LEAST_BYTES, 1 << (size - 1).bit_length())
        return (_LENGTH.pack(len(text)) + text).ljust(filled, b"\0")

    @classmethod
    def from_bytes(cls, raw: bytes) -> Holdings:
        """Read what a node wrote; UPDATE_REJECTED for anything else."""
        try:
            (length,) = _LENGTH.unpack_from(raw)
            if len(raw) > MOST_BYTES or length > len(raw) - _LENGTH.size:
                raise ValueError("length")
            document = json.loads(raw[_LENGTH.size : _LENGTH.size + length].decode())
            if document["format"] != _PART:
                raise ValueError("format")
            return cls(_text(document["subject"]), tuple(map(_read_dataset, document["datasets"])))
        except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
            raise FederatedError(
                ErrorCode.UPDATE_REJECTED, "what the node sent is not what a node exports"
            ) from error


def too_much() -> FederatedError:
    """Make the error for a subject of whom more is held than one export takes."""
    return FederatedError(
        ErrorCode.PROGRAM_LIMIT,
        f"more is held about the data subject than the {MOST_BYTES // 2**20} MiB that a node exports",
        hint="The node's own DBA can hand it over from the tables themselves.",
    )


def _written(held: HeldDataset) -> dict[str, Any]:
    return {
        "dataset": held.dataset,
        "relation": held.relation,
        "action": held.action,
        "columns": held.columns,
        "rows": held.rows,
    }


def _read_dataset(document: Mapping[str, Any]) -> HeldDataset:
    columns = tuple((_text(name), _text(kind)) for name, kind in document["columns"])
    if len(columns) > _MOST_COLUMNS:
        raise ValueError("columns")
    rows = tuple(tuple(map(_read_value, row)) for row in document["rows"])
    if any(len(row) != len(columns) for row in rows):
        raise ValueError("rows")
    dataset, relation, action = (_text(document[name]) for name in ("dataset", "relation", "action"))
    return HeldDataset(dataset, relation, action, columns, rows)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("text")
    value.encode()
    return value


def _read_value(value: object) -> Value:
    """Check that it is the JSON text of one value, since it goes into a file as it stands."""
    if value is None:
        return None
    json.loads(_text(value), parse_constant=_no_number)
    return _text(value)


def _no_number(name: str) -> float:
    raise ValueError(name)


@dataclass(frozen=True, slots=True)
class NodePart:
    """A node in the file: what is said of its answer, by name, and what it held; None where it gave
    nothing."""

    node: str
    said: Mapping[str, Value]
    holdings: Holdings | None


@dataclass(frozen=True, slots=True)
class Heading:
    """What the file says besides rows, each a JSON object: the export itself; in which runs nodes took part
    (each names its node); the subject's other orders."""

    export: Mapping[str, Any]
    participation: Sequence[Mapping[str, Any]]
    orders: Sequence[Mapping[str, Any]]


def write_file(form: str, heading: Heading, parts: Iterable[NodePart]) -> Iterator[bytes]:
    """Write the file in one of `FORMATS`, a part at a time: no two are in memory together.

    Of a node that holds nothing about the subject its runs are left out.
    """
    return (_write_json if form == "json" else _write_csv)(heading, parts)


def _write_json(heading: Heading, parts: Iterable[NodePart]) -> Iterator[bytes]:
    yield f'{{"format": {_json(_FILE)},\n"export": {_json(heading.export)},\n"nodes": ['.encode()
    holders, between = set(), "\n"
    for part in parts:
        if part.holdings is not None and part.holdings.is_any:
            holders.add(part.node)
        yield between.encode()
        yield from _json_of_node(part)
        between = ",\n"
    yield b'],\n"participation": '
    yield _json_lines([one for one in heading.participation if one.get("node") in holders])
    yield b',\n"orders": '
    yield _json_lines(heading.orders)
    yield b"}\n"


def _json_of_node(part: NodePart) -> Iterator[bytes]:
    said = "".join(f", {_json(name)}: {_json(value)}" for name, value in part.said.items())
    yield f'{{"node": {_json(part.node)}{said}, "datasets": ['.encode()
    between = "\n "
    for held in () if part.holdings is None else part.holdings.datasets:
        yield between.encode()
        yield from _json_of_dataset(held)
        between = ",\n "
    yield b"]}"


def _json_of_dataset(held: HeldDataset) -> Iterator[bytes]:
    about = {
        "dataset": held.dataset,
        "relation": held.relation,
        "action": held.action,
        "columns": [{"name": name, "type": kind} for name, kind in held.columns],
    }
    yield f'{_json(about)[:-1]}, "rows": ['.encode()
    names, between = [_json(name) for name, _ in held.columns], "\n  "
    for row in held.rows:
        values = ", ".join(f"{name}: {value or 'null'}" for name, value in zip(names, row, strict=True))
        yield f"{between}{{{values}}}".encode()
        between = ",\n  "
    yield b"]}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _json_lines(values: Sequence[Mapping[str, Any]]) -> bytes:
    lines = ",".join(f"\n {_json(value)}" for value in values)
    return f"[{lines}]".encode()


def _write_csv(heading: Heading, parts: Iterable[NodePart]) -> Iterator[bytes]:
    yield _csv_line(*_CSV_COLUMNS)
    yield _csv_line("export", None, None, None, "format", _FILE)
    for name, value in heading.export.items():
        yield _csv_line("export", None, None, None, name, _plain(value))
    holders = set()
    for part in parts:
        if part.holdings is not None and part.holdings.is_any:
            holders.add(part.node)
        for name, said in part.said.items():
            yield _csv_line("node", part.node, None, None, name, said)
        for held in () if part.holdings is None else part.holdings.datasets:
            yield from _csv_of_dataset(part.node, held)
    taken = [one for one in heading.participation if one.get("node") in holders]
    for number, one in enumerate(taken, 1):
        yield from _csv_of_object("participation", one.get("node"), number, one)
    for number, one in enumerate(heading.orders, 1):
        yield from _csv_of_object("order", None, number, one)


def _csv_of_dataset(node: str, held: HeldDataset) -> Iterator[bytes]:
    for name, value in (("relation", held.relation), ("action", held.action)):
        yield _csv_line("dataset", node, held.dataset, None, name, value)
    for name, kind in held.columns:
        yield _csv_line("column", node, held.dataset, None, name, kind)
    for number, row in enumerate(held.rows, 1):
        for (name, _), text in zip(held.columns, row, strict=True):
            yield _csv_line("row", node, held.dataset, str(number), name, _unquoted(text))


def _csv_of_object(kind: str, node: str | None, number: int, one: Mapping[str, Any]) -> Iterator[bytes]:
    for name, value in one.items():
        if name != "node":
            yield _csv_line(kind, node, None, str(number), name, _plain(value))


def _unquoted(value: Value) -> Value:
    """A text as it is, whatever else as JSON writes it."""
    return json.loads(value) if value is not None and value.startswith('"') else value


def _plain(value: object) -> Value:
    if value is None or isinstance(value, str):
        return value
    return _json(value)


def _csv_line(*values: Value) -> bytes:
    """A line as PostgreSQL's COPY writes CSV: nothing for NULL, quotes for an empty text."""
    return (",".join(map(_csv_value, values)) + "\n").encode()


def _csv_value(value: Value) -> str:
    if value is None:
        return ""
    if value and not any(sign in value for sign in ',"\r\n') and value != "\\.":
        return value
    return '"' + value.replace('"', '""') + '"'

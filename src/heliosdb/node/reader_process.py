"""The process that reads rows for the training process, which may connect to nothing.

What always holds: it does one of the named things at a time, with the rights of the role whose connection
string it is told, if that is one of the node's settings, and keeps neither that nor a row; it ends with the
process that it reads for. It knows no key of the node's: rows come as numbers and as hashes without a key.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from typing import Any

import psycopg

from heliosdb.catalog.failures import is_connection_lost
from heliosdb.domain.ids import DatasetName
from heliosdb.node.piped_rows import ReaderProcess
from heliosdb.node.reader import DirectRows, connect_reader
from heliosdb.node.reader_calls import (
    READERS,
    ClosedError,
    Kind,
    name_of_reader,
    read_columns,
    read_counts,
    read_query,
    read_range,
    receive,
    send,
    send_json,
    write_pairs,
)

_PR_SET_PDEATHSIG = 1


def start_reader_process() -> ReaderProcess:
    """Fork it, under the limits of this process; to be called before this process has threads, and before it
    may connect to nothing."""
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    if os.fork() == 0:
        ours.close()
        _end_with_parent(parent)
        try:
            _serve(theirs)
        finally:
            os._exit(0)
    theirs.close()
    return ReaderProcess(ours)


def _end_with_parent(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have gone before that was asked for.
    if os.getppid() != parent:
        os._exit(0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    # The daemon's pipes: it would not see their end while another process holds them.
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)


def _serve(lines: socket.socket) -> None:
    """Take a line for each reading, until the training process is gone."""
    while True:
        _, given, _, _ = socket.recv_fds(lines, 1, 1)
        if not given:
            return
        with (
            socket.socket(fileno=given[0]) as line,
            suppress(ClosedError, OSError, ValueError, psycopg.Error),
        ):
            _read_over(line)


def _read_over(line: socket.socket) -> None:
    """Answer calls over a connection until the line ends."""
    name, conninfo = _next_call(line)
    # What it reads for may have been taken over: it would connect to whom it likes, and tell what it knows.
    if name != "connect" or name_of_reader(str(conninfo)) not in os.environ.get(READERS, "").split(","):
        return
    try:
        connection = connect_reader(str(conninfo))
    except psycopg.Error as error:
        _tell(line, error)
        return
    with connection as raw, ExitStack() as snapshot:
        send_json(line, Kind.VALUE, None)
        rows = DirectRows(raw)
        while not raw.closed:
            name, *arguments = _next_call(line)
            try:
                if name == "begin":
                    snapshot.enter_context(rows.snapshot())
                    send_json(line, Kind.VALUE, None)
                elif name == "end":
                    snapshot.close()
                    send_json(line, Kind.VALUE, None)
                elif name in _COPIES:
                    for chunk in _COPIES[name](rows, *arguments):
                        send(line, Kind.CHUNK, chunk)
                    send_json(line, Kind.VALUE, None)
                else:
                    send_json(line, Kind.VALUE, _VALUES[name](rows, *arguments))
            except (psycopg.Error, MemoryError, UnicodeError) as error:
                _tell(line, error)


def _next_call(line: socket.socket) -> list[Any]:
    kind, body = receive(line)
    if kind is not Kind.CALL:
        raise ClosedError
    call: list[Any] = json.loads(body)
    return call


def _tell(line: socket.socket, error: Exception) -> None:
    told: Mapping[str, Any]
    if isinstance(error, psycopg.Error):
        told = {"what": "database", "sqlstate": error.sqlstate, "is_lost": is_connection_lost(error)}
    else:
        told = {"what": "memory" if isinstance(error, MemoryError) else "text"}
    send_json(line, Kind.FAILED, told)


_VALUES: Mapping[str, Callable[..., Any]] = {
    "export_snapshot": DirectRows.export_snapshot,
    "column_types": lambda rows, query: rows.column_types(read_query(query)),
    "kind_of_type": lambda rows, oid: rows.kind_of_type(int(oid)),
    "type_name": lambda rows, oid: rows.type_name(int(oid)),
    "longest_array": lambda rows, query, column: rows.longest_array(read_query(query), str(column)),
    "values_by_hash": lambda rows, query, column, counts: write_pairs(
        rows.values_by_hash(read_query(query), str(column), read_counts(counts))
    ),
    "all_values": lambda rows, query, column: write_pairs(rows.all_values(read_query(query), str(column))),
    "hashes_of": lambda rows, values: write_pairs(rows.hashes_of(list(map(str, values)))),
    "sample_texts": lambda rows, query, columns, longest, count: rows.sample_texts(
        read_query(query), list(map(str, columns)), int(longest), int(count)
    ),
}
"""What may be called for a value, by name. What is no name is an error that ends the process: nobody calls it
but the process that it reads for."""

_COPIES: Mapping[str, Callable[..., Iterable[bytearray]]] = {
    "copy_lengths": lambda rows, query, column, subject: (
        rows.copy_lengths(read_query(query), str(column), str(subject)),
    ),
    "copy_rows": lambda rows, query, columns, within: rows.copy_rows(
        read_query(query), read_columns(columns), read_range(within)
    ),
    "copy_texts": lambda rows, query, column, longest: rows.copy_texts(
        read_query(query), str(column), int(longest)
    ),
    "copy_consenting": lambda rows, dataset: (rows.copy_consenting(DatasetName(str(dataset))),),
}
"""What may be called for bytes, in chunks."""

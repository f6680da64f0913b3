"""Where a node's rows are read and computed on: its own process, or the workers of an engine that a site has.

What always holds: whichever it is, an answer has the same bits, and the one vector of it goes through the
node's door. What an engine needs beside the product is imported when one is made that needs it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Protocol

from heliosdb.algorithms.space import MEMORY, Space
from heliosdb.catalog.dataset_rows import RowQuery
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.node.allowance import Allowance
from heliosdb.node.arranging import Arranged, Described, arrange, order_rows
from heliosdb.node.dask_place import DaskPlace
from heliosdb.node.datasets import TableRequest, read_rows
from heliosdb.node.reader import Rows
from heliosdb.node.scratch import RowSpool, Scratch
from heliosdb.parts.extras import how_to_install

_ROWS_SHARE = 16
"""Rows that take more than one part in so many of the memory as they are read, or under a budget as they are
computed on, go to scratch files."""


class PartsLostError(Exception):
    """Rows that lay with workers are there no more: the table has to be read again."""


class Engine(Protocol):
    """Reads datasets; what it has read it also computes on."""

    def read(
        self, rows: Rows, reader: str, request: TableRequest, allowance: Allowance
    ) -> tuple[Arranged, Described]:
        """Read a dataset in one snapshot, and arrange its rows; how its columns stand.

        rows: asked as the reader's role, by the connection string `reader`. psycopg's errors,
        FederatedError, MemoryError; PartsLostError where workers were lost.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class OneProcess:
    """Reads into the process itself."""

    def read(
        self, rows: Rows, reader: str, request: TableRequest, allowance: Allowance
    ) -> tuple[Arranged, Described]:
        """See `Engine`."""
        del reader
        read = read_rows(rows, request, spool_of(allowance, request))
        ordered = order_rows(read.values, read.codes, request, read.space)
        return arrange(ordered, request, read.space), read

    def close(self) -> None:
        """Nothing is held."""


def spool_of(allowance: Allowance, request: TableRequest) -> RowSpool:
    """Return what takes rows as they are read: by what is made of them, which under a budget must not be too
    much for the memory."""
    memory, scratch = allowance.memory_bytes, allowance.scratch
    if memory is None or scratch is None:
        return RowSpool(None, None)
    return RowSpool(_most_read(memory, request), Scratch(scratch))


def space_of(allowance: Allowance, request: TableRequest, size: int) -> Space:
    """Return where what is made of rows belongs that take so many bytes as they are read: as `spool_of`."""
    memory, scratch = allowance.memory_bytes, allowance.scratch
    if memory is None or scratch is None or size <= _most_read(memory, request):
        return MEMORY
    return Scratch(scratch)


def _most_read(memory: int, request: TableRequest) -> int:
    return memory // _ROWS_SHARE * request.width // request.most_width


def make_engine(place: DaskPlace | None, allowance: Allowance) -> Engine:
    """Return an engine; None: the process itself. FederatedError where its packages are not installed."""
    if place is None:
        return OneProcess()
    check_installed()
    from heliosdb.node.dask_engine import DaskEngine

    return DaskEngine(place, allowance)


def check_installed() -> None:
    """FederatedError WRONG_STATE where dask is not there."""
    if find_spec("distributed") is None or find_spec("dask") is None:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            "engine = 'dask' needs the packages dask and distributed, which are not installed",
            hint=how_to_install("dask"),
        )


def query_of(request: TableRequest) -> RowQuery:
    """Say what a request reads."""
    return RowQuery(request.dataset, request.columns, request.names)

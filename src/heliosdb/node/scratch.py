"""Rows that do not fit into the training process's memory: files without a name, mapped.

What always holds: a file is the node's own user's alone (mode 0600), has no name from the moment it is there,
and is gone with the process, however that ends; its whole size is allocated before it is mapped, so that a
full disk is an error and never a signal. Its pages are no part of the limited memory: the kernel writes them
back and takes them away whenever it needs to.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Iterable
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from heliosdb.algorithms.space import MEMORY, Space, size_of
from heliosdb.algorithms.table import Codes
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.vector import Matrix

_LEAST = 1 << 20
"""Bytes: what is smaller lies in memory."""

_LOOKED_AT = 1 << 26
"""Bytes that are looked at before pages are given back."""


class ScratchFullError(FederatedError):
    """The directory has no room, or cannot be written to."""

    def __init__(self, reason: str | None) -> None:
        super().__init__(
            ErrorCode.PROGRAM_LIMIT,
            "the rows do not fit into the node's memory limit, and its scratch directory cannot take them:"
            f" {reason or 'not writable'}",
            hint="The node's own DBA names another one with scratch_directory, makes room there, or raises"
            " max_memory_gb.",
        )


class Scratch:
    """A directory of scratch files; a `Space`."""

    is_memory = False

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._mapped = weakref.WeakSet[mmap.mmap]()
        self._looked_at = 0

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """Return an array whose values are not set; ScratchFullError."""
        size = size_of(shape, dtype)
        if size < _LEAST:
            return np.empty(shape, dtype=dtype)
        try:
            with tempfile.TemporaryFile(dir=self._directory, buffering=0) as file:
                os.posix_fallocate(file.fileno(), 0, size)
                return self.map(file, size, dtype).reshape(shape)
        except OSError as error:
            raise ScratchFullError(error.strerror) from error

    def open(self) -> IO[bytes]:
        """Return a file that grows, to be mapped when it is written; ScratchFullError."""
        try:
            return tempfile.TemporaryFile(dir=self._directory, buffering=0)
        except OSError as error:
            raise ScratchFullError(error.strerror) from error

    def map(self, file: IO[bytes], size: int, dtype: DTypeLike) -> NDArray[Any]:
        """Return what a file holds; it may be closed."""
        mapped = mmap.mmap(file.fileno(), size)
        self._mapped.add(mapped)
        return np.frombuffer(mapped, dtype=dtype)

    def rest(self, looked_at: int) -> None:
        """Give pages back, now and then: they stay in the file."""
        self._looked_at += looked_at
        if self._looked_at >= _LOOKED_AT:
            self._looked_at = 0
            for mapped in list(self._mapped):
                mapped.madvise(mmap.MADV_DONTNEED)


class RowSpool:
    """Takes rows as they are read: in memory up to `most_bytes`, beyond that in scratch files.

    scratch None: in memory alone.
    """

    def __init__(self, most_bytes: int | None, scratch: Scratch | None) -> None:
        self._most, self._scratch = most_bytes, scratch
        self._parts: list[tuple[Matrix, Codes]] = []
        self._files: tuple[IO[bytes], IO[bytes]] | None = None
        self._bytes = self._rows = 0
        self._shape = (0, 0)

    @property
    def space(self) -> Space:
        """Where what is made of the rows belongs."""
        return MEMORY if self._files is None or self._scratch is None else self._scratch

    def add(self, values: Matrix, codes: Codes) -> None:
        """Take a block of rows; ScratchFullError. Shapes (n, numbers), (n, names)."""
        self._bytes += values.nbytes + codes.nbytes
        self._rows += len(values)
        self._shape = (values.shape[1], codes.shape[1])
        beyond = self._most is not None and self._bytes > self._most and self._scratch is not None
        if beyond and self._files is None and self._scratch is not None:
            self._files = (self._scratch.open(), self._scratch.open())
            for part in self._parts:
                self._write(*part)
            self._parts.clear()
        if self._files is None:
            self._parts.append((values, codes))
        else:
            self._write(values, codes)

    def finish(self) -> tuple[Matrix, Codes]:
        """Return all rows, which may be written to; nothing is to be added any more."""
        if self._files is None or self._scratch is None:
            parts, self._parts = self._parts, []
            if len(parts) == 1:
                return parts[0]
            return np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts])
        (values, codes), (numbers, names) = self._files, self._shape
        with values, codes:
            sizes = (self._rows * numbers * 8, self._rows * names * 8)
            mapped = self._scratch.map(values, sizes[0], np.float64) if numbers else np.empty(0)
            named = self._scratch.map(codes, sizes[1], np.int64) if names else np.empty(0, dtype=np.int64)
        return mapped.reshape(self._rows, numbers), named.reshape(self._rows, names)

    def _write(self, values: Matrix, codes: Codes) -> None:
        assert self._files is not None
        for file, array in zip(self._files, (values, codes), strict=True):
            _write_whole(file, np.ascontiguousarray(array).data.cast("B") if array.size else b"")


def _write_whole(file: IO[bytes], data: bytes | memoryview) -> None:
    written = 0
    try:
        while written < len(data):
            written += file.write(data[written:])
    except OSError as error:
        raise ScratchFullError(error.strerror) from error


def spool_of(blocks: Iterable[tuple[Matrix, Codes]], spool: RowSpool) -> tuple[Matrix, Codes]:
    """Take all blocks of rows; return them."""
    for values, codes in blocks:
        spool.add(values, codes)
    return spool.finish()

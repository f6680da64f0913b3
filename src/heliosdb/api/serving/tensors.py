"""Tensors of the protocol, whichever door they came by.

What always holds: a tensor has as many elements as its shape says, each of its datatype; numbers are float64,
where NaN is what is missing, and texts are Unicode or None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.api.problems import Problem
from heliosdb.domain.wording import counted

Numbers = NDArray[np.float64]
Texts = Sequence[str | None]

TEXT = "BYTES"
NUMBERS = {
    "BOOL": "?",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""Datatypes of numbers, and how their bytes lie."""

_MOST_DIMENSIONS = 8


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named tensor, flat. datatype: the protocol's name."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Numbers | Texts


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """What a tensor of that name is to be, or will be; -1: any number."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What is to be predicted. outputs: which tensors are wanted; () for all. id: comes back."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] = ()
    id: str = ""


@dataclass(frozen=True, slots=True)
class InferenceAnswer:
    """What was predicted, by which version."""

    model: str
    version: str
    outputs: tuple[Tensor, ...]


def misfit(detail: str) -> Problem:
    """A request that does not fit the protocol, or not the model."""
    return Problem(422, detail, sqlstate="22023")


def check_shape(name: str, shape: Sequence[int], count: int) -> tuple[int, ...]:
    """The shape of `count` elements; a Problem 422 where they are not as many."""
    if not 1 <= len(shape) <= _MOST_DIMENSIONS or min(shape) < 0:
        raise misfit(f'The shape of input "{name}" is not one to {_MOST_DIMENSIONS} sizes.')
    if math.prod(shape) != count:
        raise misfit(
            f'Input "{name}" has {counted(count, "element")}, and its shape says {math.prod(shape)}.'
        )
    return tuple(shape)


def check_finite(name: str, values: Numbers) -> Numbers:
    """Numbers of which none is infinite; a Problem 422."""
    if np.isinf(values).any():
        raise misfit(f'Input "{name}" has a number that is not finite; what is missing is NaN or null.')
    return values


def check_range(name: str, datatype: str, elements: Sequence[int | float | None]) -> None:
    """A Problem 422 where an integer is beyond its datatype: asked of integers, since float64 rounds them."""
    if "INT" not in datatype:
        return
    bounds = np.iinfo(np.dtype(NUMBERS[datatype]))
    there = [one for one in elements if one is not None]
    if there and (min(there) < bounds.min or max(there) > bounds.max):
        raise misfit(f'Input "{name}" has a number that is no {datatype}.')


def find_datatype(name: str, datatype: str) -> str:
    """The datatype; a Problem 422 for one that no feature has."""
    if datatype != TEXT and datatype not in NUMBERS:
        raise misfit(f'The datatype of input "{name}" is none of {", ".join((*NUMBERS, TEXT))}.')
    return datatype


def check_text(name: str, texts: Texts) -> Texts:
    """Texts as PostgreSQL can have them; a Problem 422."""
    if any(text is not None and "\0" in text for text in texts):
        raise misfit(f'Input "{name}" has a character that no text may have.')
    return texts

"""Whether a network on series fits them, told from the options alone: at START, and later.

What always holds: nothing here imports numpy; of what passes every channel is so many inputs, a transformer's
width is divided among its heads, and no row is multiplied to more numbers than `bounds.WINDOWS` allows.
"""

from __future__ import annotations

import math

from heliosdb.domain import bounds
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import RecurrentSettings, SeriesSettings, TransformerSettings

FEED_FORWARD = 4
"""How many times wider than a transformer its hidden layers are (Vaswani et al. 2017)."""

GATES = {"lstm": 4, "gru": 3}
"""The sums of a cell that are made for each of its numbers."""


def check_series(settings: SeriesSettings) -> tuple[int, int]:
    """Return length and channels; FederatedError INVALID_VALUE where the options make no network of them."""
    length, channels = check_shape(settings.input_shape)
    if isinstance(settings, TransformerSettings):
        _check_transformer(settings, length)
    elif isinstance(settings, RecurrentSettings):
        ways = 2 if settings.bidirectional else 1
        _check_work(length * ways * max(GATES.values()) * settings.width, "Use a smaller width.")
    return length, channels


def check_shape(shape: tuple[int, ...] | None) -> tuple[int, int]:
    """Return length and channels of an input_shape; FederatedError INVALID_VALUE for what is none."""
    if shape is None or len(shape) != 2:
        raise invalid_value(
            "input_shape is missing"
            if shape is None
            else f"input_shape has {counted(len(shape), 'entry', 'entries')}",
            hint="It is length and channels of the series: input_shape = [48, 2] for two features that are"
            " arrays of 48 numbers.",
        )
    if not bounds.PIXELS.hold(math.prod(shape)):
        raise invalid_value(
            f"input_shape {list(shape)} is {math.prod(shape)} numbers a row, more than"
            f" {bounds.PIXELS.most:.0f}",
            hint="Let a view share shorter series, or means over several steps.",
        )
    return shape[0], shape[1]


def check_series_inputs(settings: SeriesSettings, inputs: int) -> None:
    """Raise FederatedError INVALID_VALUE where so many inputs have no such series. inputs: of all."""
    length, channels = check_series(settings)
    if inputs < length * channels:
        raise invalid_value(
            f"input_shape {[length, channels]} is {counted(length * channels, 'number')}, and the features"
            f" make {counted(inputs, 'input')}",
            hint=HINT,
        )


HINT = "The first features are the series: for each channel an array of so many elements, or so many numbers."


def _check_transformer(settings: TransformerSettings, length: int) -> None:
    width, heads = settings.width, settings.heads
    if width % heads:
        raise invalid_value(
            f"heads is {heads}, and width {width}",
            hint="The width is divided among the heads: choose a multiple of heads.",
        )
    _check_work(
        max(heads * length**2, FEED_FORWARD * length * width),
        "Use shorter series, fewer heads or a smaller width.",
    )


def _check_work(numbers: int, hint: str) -> None:
    if not bounds.WINDOWS.hold(numbers):
        raise invalid_value(
            f"the network makes {numbers} numbers of a row at a time, more than {bounds.WINDOWS.most:.0f}",
            hint=hint,
        )

"""Whether a convolutional network fits its image, told from the options alone: at START, and later.

What always holds: nothing here imports numpy; of what passes every block has places to look at, groups that
its channels fill, and no more numbers than one row may become.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from heliosdb.domain import bounds
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import ConvolutionSettings
from heliosdb.parts.networks import count_parameters, too_large


class Place(NamedTuple):
    """Of a block: channels before it and its own; height and width of what it looks at."""

    before: int
    channels: int
    height: int
    width: int


def places(image: tuple[int, ...], channels: tuple[int, ...]) -> Iterator[Place]:
    """Give each block's sizes, of an image of (channels, height, width)."""
    _, height, width = image
    for before, own in pairwise((image[0], *channels)):
        yield Place(before, own, height, width)
        height, width = max(1, height // 2), max(1, width // 2)


def made_of(image: tuple[int, ...], channels: tuple[int, ...]) -> int:
    """Return how many numbers the blocks make of an image."""
    last = list(places(image, channels))[-1]
    return last.channels * max(1, last.height // 2) * max(1, last.width // 2)


def check_image(settings: ConvolutionSettings) -> tuple[int, ...]:
    """Return the image's shape; FederatedError INVALID_VALUE where the options make no network of it."""
    image = settings.input_shape
    if image is None or len(image) != 3:
        raise invalid_value(
            "input_shape is missing" if image is None else f"input_shape has {len(image)} entries",
            hint="It is channels, height and width of the images: input_shape = [1, 28, 28].",
        )
    if not bounds.PIXELS.hold(math.prod(image)):
        raise invalid_value(
            f"input_shape {list(image)} is {math.prod(image)} numbers a row, more than"
            f" {bounds.PIXELS.most:.0f}",
            hint="Let a view share smaller images.",
        )
    if not bounds.BLOCKS.hold(len(settings.channels)):
        raise invalid_value(
            f"channels has {len(settings.channels)} entries",
            hint=f"A cnn has 1 to {bounds.BLOCKS.most:.0f} blocks.",
        )
    if settings.kernel % 2 == 0:
        raise invalid_value(f"kernel is {settings.kernel}", hint="A kernel is an odd number wide: 3 or 5.")
    wrong = next((one for one in settings.channels if one % settings.groups), None)
    if wrong is not None:
        raise invalid_value(
            f"groups is {settings.groups}, and a block has {counted(wrong, 'channel')}",
            hint="Each block's channels are divided among the groups: choose multiples of groups.",
        )
    windows = max(
        one.before * settings.kernel**2 * one.height * one.width for one in places(image, settings.channels)
    )
    if not bounds.WINDOWS.hold(windows):
        raise invalid_value(
            f"a block multiplies {windows} numbers a row, more than {bounds.WINDOWS.most:.0f}",
            hint="Use fewer channels, or a smaller kernel.",
        )
    return image


def check_inputs(settings: ConvolutionSettings, inputs: int) -> None:
    """Raise FederatedError INVALID_VALUE where so many inputs have no such image, or the network is too
    large. inputs: of all features."""
    image = check_image(settings)
    if inputs < math.prod(image):
        raise invalid_value(
            f"input_shape {list(image)} is {counted(math.prod(image), 'number')}, and the features make"
            f" {counted(inputs, 'input')}",
            hint="The first features are the image: an array of so many elements, or so many numbers.",
        )
    count = count_convolution(inputs, image, settings.channels, settings.kernel, settings.layers)
    if not bounds.NETWORK_PARAMETERS.hold(count):
        raise too_large(count)


def count_blocks(image: tuple[int, ...], channels: tuple[int, ...], kernel: int) -> int:
    """Return how many parameters the blocks have: kernels, gains and shifts."""
    return sum(own * (before * kernel**2 + 2) for before, own in pairwise((image[0], *channels)))


def count_convolution(
    inputs: int, image: tuple[int, ...], channels: tuple[int, ...], kernel: int, layers: tuple[int, ...]
) -> int:
    """Return how many parameters the whole network has."""
    joined = made_of(image, channels) + inputs - math.prod(image)
    return count_blocks(image, channels, kernel) + count_parameters(joined, layers)

"""What input_shape says of the first features: how long arrays are, and which of them is an image.

What always holds: nothing here comes from a row, so that under a privacy budget none is asked for it.
"""

from __future__ import annotations

import math

from heliosdb.domain.datasets import kind_of
from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.handshake import DatasetDescription
from heliosdb.domain.run import TrainingOptions
from heliosdb.domain.wording import counted

IMAGE_CHANNELS = (1, 3, 4)
"""Of an image that is bytes: grey; red, green and blue; these and how opaque it is."""


def declared_elements(options: TrainingOptions) -> tuple[int, ...]:
    """Return how many elements input_shape says that the first features have where they are arrays: of an
    image (channels, height, width) one feature has all, of series (length, channels) each channel is one."""
    shape: tuple[int, ...] = tuple(options.given.get("input_shape") or ())
    if len(shape) == 2:
        length, channels = shape
        return (length,) * min(channels, len(options.features))
    return (math.prod(shape),) if shape else ()


def image_shape(options: TrainingOptions) -> tuple[int, ...]:
    """Return channels, height and width of the image that the first features are; () where they are none."""
    shape: tuple[int, ...] = tuple(options.given.get("input_shape") or ())
    return shape if len(shape) == 3 else ()


def image_feature(options: TrainingOptions) -> str | None:
    """Return the feature that may be an image: the first, where input_shape says of what shape."""
    return options.features[0] if options.features and image_shape(options) else None


def has_image(dataset: DatasetDescription, options: TrainingOptions) -> bool:
    """Whether a dataset's first feature is an image as bytes."""
    name = image_feature(options)
    return name is not None and kind_of(dataset.type_of(name)) is ColumnKind.IMAGE


def check_channels(options: TrainingOptions) -> None:
    """FederatedError INVALID_VALUE for an image of channels that no file has."""
    channels, *_ = options.given["input_shape"]
    if channels not in IMAGE_CHANNELS:
        raise invalid_value(
            f"input_shape says {counted(channels, 'channel')}, and an image that is bytea has 1, 3 or 4",
            hint="1: grey. 3: red, green, blue. 4: these and alpha.",
        )

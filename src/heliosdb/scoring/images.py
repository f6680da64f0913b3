"""Bytes that hold an image become its pixels as numbers: at nodes, where a model predicts, and in tests.

What always holds: what an image becomes depends on its bytes and the shape that is asked for alone; nothing
is resized or turned. Its size is compared with that shape before a pixel is decoded, so that no bytes make
more numbers than were asked for. It opens no file and no connection, and whatever the bytes are, it raises
nothing but a FederatedError, which tells nothing of a pixel.

A number is a share of the largest that its format can hold, from 0 to 1: of 255, or of 65,535 where a grey
image has 16 bits. DICOM: see dicom.py.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.bounds import IMAGE_BYTES
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.wording import counted

Shape = tuple[int, int, int]
"""Channels, height and width."""

Pixels = NDArray[np.float64]
"""(height, width, channels)."""

FORMATS = ("PNG", "JPEG", "TIFF")
"""What Pillow may try, by its own names; no other of its decoders is asked."""

_WHOLE = {"1": 1.0, "L": 255.0, "LA": 255.0, "RGB": 255.0, "RGBA": 255.0}
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")
_WITH_ALPHA = ("LA", "RGBA")

_TIFF_COMPRESSIONS = ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate")
_BITS, _INTERPRETATION, _TILE_WIDTH, _TILE_HEIGHT, _ORIENTATION = 258, 262, 322, 323, 274
_MOST_OF_TILE = 1 << 20

_LUMA = np.array([0.299, 0.587, 0.114])
"""Of red, green and blue (ITU-R BT.601): what a colour is as grey."""


def decode_image(raw: bytes, shape: Sequence[int]) -> NDArray[np.float64]:
    """Return the pixels, (channels * height * width,), channel by channel and line by line.

    FederatedError INVALID_VALUE for bytes that are no image of that shape, NOT_SUPPORTED where what decodes
    them is not installed.
    """
    channels, height, width = shape
    if not IMAGE_BYTES.hold(len(raw)):
        raise invalid_value(
            f"it is {counted(len(raw), 'byte')}, and an image is 1 to {IMAGE_BYTES.most:.0f} of them"
        )
    if raw[128:132] == b"DICM":
        from heliosdb.scoring.dicom import decode_dicom

        colours, alpha = decode_dicom(raw, height, width), None
    else:
        colours, alpha = decode_by_pillow(raw, height, width, FORMATS)
    found = _with_channels(colours, alpha, channels)
    return np.ascontiguousarray(np.moveaxis(found, 2, 0)).reshape(-1)


def image_slots(raw: bytes | None, feature: str, shape: Sequence[int]) -> list[float]:
    """Return an image's slots, see rows.py, NaN where there is none; errors as of `decode_image`, which name
    the feature."""
    if raw is None:
        return [math.nan] * math.prod(shape)
    try:
        pixels: list[float] = decode_image(raw, shape).tolist()
    except FederatedError as error:
        if error.code is not ErrorCode.INVALID_VALUE:
            raise
        raise invalid_value(
            f'feature "{feature}" is no image that the model can predict from: {error.message}',
            hint=error.hint,
        ) from None
    return pixels


@cache
def load_pillow() -> ModuleType:
    """Return Pillow's module for images, with the decoders that are asked; NOT_SUPPORTED where it is not
    installed."""
    try:
        from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin
    except ImportError as error:
        raise not_installed("Pillow") from error
    # They register themselves; of a format that is not registered Pillow would import all that it has.
    del JpegImagePlugin, PngImagePlugin, TiffImagePlugin
    return Image


def load_libraries() -> None:
    """Have what decodes all formats in place; NOT_SUPPORTED where some is not installed."""
    from heliosdb.scoring.dicom import load_pydicom

    load_pillow()
    load_pydicom()


def not_installed(library: str) -> FederatedError:
    """The error where a library of the extra is missing."""
    return FederatedError(
        ErrorCode.NOT_SUPPORTED,
        f"images cannot be decoded here: {library} is not installed",
        detail='It comes with the extra "images" (Pillow for PNG, JPEG and TIFF, pydicom for DICOM).',
        hint="Beside a node: pip install 'heliosdb-federated-learning[images]'. In a database server it is"
        " PL/Python's own Python that needs it, as the packages python3-pil and python3-pydicom bring it.",
    )


def decode_by_pillow(
    raw: bytes, height: int, width: int, formats: Sequence[str]
) -> tuple[Pixels, NDArray[np.float64] | None]:
    """Return colours of 1 or 3 channels, and how opaque each place is, (height, width), or None where the
    image does not say.

    Errors as of `decode_image`.
    """
    library = load_pillow()
    try:
        with warnings.catch_warnings():
            # They may quote what a file says of itself.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", library.DecompressionBombWarning)
            with library.open(BytesIO(raw), formats=formats) as image:
                _check_header(image, height, width, formats)
                image.load()
                return _colours(image)
    except (FederatedError, MemoryError):
        raise
    # A decoder of foreign bytes raises whatever it likes: each of these says that they are no image.
    except Exception:  # noqa: BLE001
        raise invalid_value(
            "it is none that can be decoded", hint="It is a whole PNG, JPEG, TIFF or DICOM image."
        ) from None


def _check_header(image: Any, height: int, width: int, formats: Sequence[str]) -> None:
    """Raise for what is known before a pixel is decoded."""
    if image.format not in formats:
        raise invalid_value("it holds several images in one")
    check_size(image.size[1], image.size[0], height, width)
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        if image.info.get("compression") not in _TIFF_COMPRESSIONS:
            raise invalid_value(
                "it is a TIFF of a compression that is not read",
                hint="None, PackBits, LZW and Deflate are.",
            )
        if int(tags.get(_TILE_WIDTH, 1)) * int(tags.get(_TILE_HEIGHT, 1)) > _MOST_OF_TILE:
            raise invalid_value("it is a TIFF of tiles that are larger than any image")
    if int(image.getexif().get(_ORIENTATION, 1)) != 1:
        raise invalid_value("it says that it is to be turned", hint="Store it as it is to be seen.")
    if _has_more(image):
        raise invalid_value("it holds several images in one")


def check_size(height: int, width: int, wanted_height: int, wanted_width: int) -> None:
    """Raise INVALID_VALUE where an image says another size than is asked for."""
    if (height, width) != (wanted_height, wanted_width):
        raise invalid_value(
            f"it is {height} high and {width} wide, and the model's input_shape says {wanted_height} and"
            f" {wanted_width}",
            hint="Nothing is resized: a view, or who stores the images, makes them one size.",
        )


def _has_more(image: Any) -> bool:
    try:
        image.seek(1)
    except EOFError:
        image.seek(0)
        return False
    return True


def _colours(image: Any) -> tuple[Pixels, NDArray[np.float64] | None]:
    """Return what was loaded as shares of the largest number."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif "transparency" in image.info:
        # One grey or colour that stands for nothing there.
        if image.mode not in ("L", "RGB"):
            raise invalid_value("it marks a number as transparent, which is not read")
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    if image.mode in _DEEP or (image.mode == "I" and image.format == "PNG"):
        return _deep(image), None
    if image.mode not in _WHOLE:
        raise invalid_value(
            "its colours are none that are read",
            hint="Grey of 1, 8 or 16 bits, palettes and RGB are, with an alpha channel or without.",
        )
    numbers = np.asarray(image, dtype=np.float64) / _WHOLE[image.mode]
    if numbers.ndim == 2:
        return numbers[:, :, np.newaxis], None
    return (numbers[:, :, :-1], numbers[:, :, -1]) if image.mode in _WITH_ALPHA else (numbers, None)


def _deep(image: Any) -> Pixels:
    """Return grey of more than 8 bits, as it is stored: Pillow neither widens the 12 bits that a TIFF may
    have nor turns those round of which 0 is white, as it does with 8."""
    tags = getattr(image, "tag_v2", {})
    bits, is_white = int(tags.get(_BITS, (16,))[0]), tags.get(_INTERPRETATION) == 0
    numbers = np.asarray(image, dtype=np.float64)[:, :, np.newaxis] / (2.0**bits - 1.0)
    return 1.0 - numbers if is_white else numbers


def _with_channels(colours: Pixels, alpha: NDArray[np.float64] | None, channels: int) -> Pixels:
    """Return the channels that are asked for: 1 is grey, 3 are red, green and blue, 4 those and alpha."""
    if channels == 4:
        if alpha is None:
            raise invalid_value("it has no alpha channel, and the model's input_shape says 4 channels")
        return np.concatenate([_three(colours), alpha[:, :, np.newaxis]], axis=2)
    if alpha is not None and bool(np.any(alpha != 1.0)):
        raise invalid_value(
            "it is transparent in places",
            hint="What stands behind it no number says: store it opaque, or use 4 channels.",
        )
    if channels == 3:
        return _three(colours)
    if channels != 1:
        raise invalid_value(f"an image has 1, 3 or 4 channels, not {channels}")
    return colours if colours.shape[2] == 1 else (colours @ _LUMA)[:, :, np.newaxis]


def _three(colours: Pixels) -> Pixels:
    return np.repeat(colours, 3, axis=2) if colours.shape[2] == 1 else colours

"""The pixels of a DICOM file as numbers, one image a file.

What always holds: of all that the file says, the pixels and what is needed to read them are looked at. Only
transfer syntaxes are read that are not compressed as a whole: little endian, implicit or explicit, and
baseline JPEG; which one it is, is read here, once, so that nothing is inflated on the word of another header.

A number is the stored one, of MONOCHROME1 counted from the other end. Where the file has a rescale slope or
intercept (PS3.3 C.11.1) these are applied, and it is in the modality's units, such as Hounsfield's; without
them it is a share of 2^BitsStored - 1. Units are what they are however they are shown: MONOCHROME1 turns
nothing round there, but where slope and intercept are 1 and 0, which are no units.
"""

from __future__ import annotations

import logging
import math
import struct
import warnings
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.bounds import PIXEL
from heliosdb.domain.errors import FederatedError, invalid_value
from heliosdb.scoring.images import Pixels, check_size, decode_by_pillow, not_installed

_IMPLICIT, _EXPLICIT, _JPEG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
"""Value representations whose length takes four bytes (PS3.5 7.1.2)."""

_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
_TAGS = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows",
    "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope",
    "RescaleIntercept", "PixelData",
)  # fmt: skip


def decode_dicom(raw: bytes, height: int, width: int) -> Pixels:
    """Return the pixels, of 1 or 3 channels; errors as `decode_image` has them."""
    library = load_pydicom()
    try:
        with warnings.catch_warnings():
            # They quote what the file says.
            warnings.simplefilter("ignore")
            syntax, start = _read_head(raw)
            if syntax not in (_IMPLICIT, _EXPLICIT, _JPEG):
                raise _unread("transfer syntax")
            tags = [library.tag.Tag(one) for one in _TAGS]
            found = library.filereader.read_dataset(
                BytesIO(raw[start:]), syntax == _IMPLICIT, True, specific_tags=tags
            )
            return _pixels(library, found, height, width, is_jpeg=syntax == _JPEG)
    except (FederatedError, MemoryError):
        raise
    # As of Pillow: what is raised over foreign bytes says that they are no image.
    except Exception:  # noqa: BLE001
        raise invalid_value("it is a DICOM file that cannot be read") from None


@cache
def load_pydicom() -> Any:
    """Return pydicom, which says nothing of files to anybody; NOT_SUPPORTED where it is not installed."""
    try:
        import pydicom
        import pydicom.encaps
        import pydicom.filereader
    except ImportError as error:
        raise not_installed("pydicom") from error
    # It would quote elements of a file.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    return pydicom


def _read_head(raw: bytes) -> tuple[str, int]:
    """Return the transfer syntax that group 2 names, and where that ends; struct.error, ValueError."""
    syntax, place = "", 132
    while struct.unpack_from("<H", raw, place)[0] == 2:
        element, kind = struct.unpack_from("<H2s", raw, place + 2)
        is_long = kind in _LONG
        (length,) = struct.unpack_from("<I" if is_long else "<H", raw, place + (8 if is_long else 6))
        begin = place + (12 if is_long else 8)
        if element == 0x10:
            syntax = raw[begin : begin + length].rstrip(b"\0 ").decode("ascii")
        place = begin + length
    return syntax, place


def _pixels(library: Any, found: Any, height: int, width: int, *, is_jpeg: bool) -> Pixels:
    check_size(int(found.Rows), int(found.Columns), height, width)
    if int(found.get("NumberOfFrames") or 1) != 1:
        raise invalid_value("it holds several images in one")
    samples, colours = int(found.SamplesPerPixel), str(found.PhotometricInterpretation)
    allocated, stored = int(found.BitsAllocated), int(found.BitsStored)
    if allocated not in (8, 16) or not 1 <= stored <= allocated or int(found.HighBit) != stored - 1:
        raise _unread("number of bits")
    is_signed = int(found.PixelRepresentation) == 1
    if is_jpeg:
        if allocated != 8 or stored != 8 or is_signed:
            raise _unread("number of bits")
        return _from_jpeg(library, found, height, width)
    if samples == 3 and colours == "RGB" and stored == 8 and not is_signed:
        flat = _stored(found, height * width * 3, 8, is_signed=False)
        is_planar = int(found.PlanarConfiguration) == 1
        shaped = (
            np.moveaxis(flat.reshape(3, height, width), 0, 2) if is_planar else flat.reshape(height, width, 3)
        )
        return shaped / 255.0
    if samples != 1 or colours not in _MONOCHROME:
        raise _unread("photometric interpretation")
    numbers = _masked(
        _stored(found, height * width, allocated, is_signed=is_signed), stored, is_signed=is_signed
    )
    return _scaled(found, numbers.reshape(height, width, 1), stored, is_signed=is_signed)


def _from_jpeg(library: Any, found: Any, height: int, width: int) -> Pixels:
    samples, colours = int(found.SamplesPerPixel), str(found.PhotometricInterpretation)
    frames = list(library.encaps.generate_frames(found.PixelData, number_of_frames=1))
    if len(frames) != 1:
        raise invalid_value("it holds several images in one")
    shares, _ = decode_by_pillow(frames[0], height, width, ("JPEG",))
    if samples == 1 and colours in _MONOCHROME and shares.shape[2] == 1:
        return _scaled(found, np.rint(shares * 255.0), 8, is_signed=False)
    if samples == 3 and colours in ("YBR_FULL_422", "YBR_FULL") and shares.shape[2] == 3:
        return shares
    raise _unread("photometric interpretation")


def _stored(found: Any, count: int, allocated: int, *, is_signed: bool) -> NDArray[np.float64]:
    """The stored numbers; of an odd number of bytes one more may follow (PS3.5 8.1.1)."""
    kind = np.dtype(f"<{'i' if is_signed else 'u'}{allocated // 8}")
    raw: bytes = found.PixelData
    if len(raw) != count * kind.itemsize + (count * kind.itemsize) % 2:
        raise invalid_value("it does not hold as many pixels as it says")
    return np.frombuffer(raw, dtype=kind, count=count).astype(np.float64)


def _masked(numbers: NDArray[np.float64], stored: int, *, is_signed: bool) -> NDArray[np.float64]:
    """Without what old files keep in the bits above a number."""
    low = np.mod(numbers, 2.0**stored)
    return np.where(low >= 2.0 ** (stored - 1), low - 2.0**stored, low) if is_signed else low


def _scaled(found: Any, numbers: Pixels, stored: int, *, is_signed: bool) -> Pixels:
    slope, intercept = found.get("RescaleSlope"), found.get("RescaleIntercept")
    factor = 1.0 if slope is None else float(slope)
    shift = 0.0 if intercept is None else float(intercept)
    if str(found.PhotometricInterpretation) == "MONOCHROME1" and (factor, shift) == (1.0, 0.0):
        numbers = (-1.0 if is_signed else 2.0**stored - 1.0) - numbers
    if slope is None and intercept is None:
        return numbers / (2.0**stored - 1.0)
    if not (math.isfinite(factor) and math.isfinite(shift)):
        raise _unread("rescale slope or intercept")
    made: Pixels = numbers * factor + shift
    if not (PIXEL.hold(float(made.min())) and PIXEL.hold(float(made.max()))):
        raise _unread("rescale slope or intercept")
    return made


def _unread(what: str) -> FederatedError:
    return invalid_value(
        f"it is a DICOM file whose {what} is not read",
        hint="Little endian without compression and baseline JPEG are, with MONOCHROME1, MONOCHROME2 or RGB;"
        " 8 bits, and 16 of grey.",
    )

"""Images as files, for tests: of arrays, by Pillow and pydicom."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit


def as_file(pixels: NDArray[Any], format_: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    """Return an image of (height, width) or (height, width, channels) as a file."""
    written = BytesIO()
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(written, format_, **options)
    return written.getvalue()


def as_dicom(pixels: NDArray[Any], syntax: UID = ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """Return an image as a DICOM file; elements: further ones, or others than those of the array."""
    made, meta = Dataset(), FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    made.PatientName, made.SOPClassUID, made.SOPInstanceUID = "Doe^Jane", "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    made.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit = made.BitsAllocated - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    raw = pixels.tobytes()
    if syntax == JPEGBaseline8Bit:
        raw = encapsulate([as_file(pixels, "JPEG", quality=95)])
    made.add_new("PixelData", "OW" if pixels.dtype.itemsize == 2 else "OB", raw + b"\0" * (len(raw) % 2))
    if syntax == JPEGBaseline8Bit:
        made["PixelData"].is_undefined_length = True
    for name, value in elements.items():
        setattr(made, name, value)
    written = BytesIO()
    made.file_meta = meta
    made.save_as(
        written, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=True, enforce_file_format=True
    )
    return written.getvalue()


def grey(height: int, width: int, kind: Any = np.uint8, seed: int = 0) -> NDArray[Any]:
    """Return an image of whatever numbers."""
    limits = np.iinfo(kind)
    return np.random.default_rng(seed).integers(
        limits.min, limits.max, (height, width), dtype=kind, endpoint=True
    )

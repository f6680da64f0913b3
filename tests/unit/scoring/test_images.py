"""Bytes become pixels: by format, by bits, by channels; whatever else they are, they are refused."""

from __future__ import annotations

import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

from heliosdb.domain.bounds import IMAGE_BYTES
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.scoring.images import decode_image
from tests.support.images import as_dicom, as_file, grey

GREY, DEEP = grey(5, 7), grey(5, 7, np.uint16)
COLOURS = np.stack([grey(5, 7, seed=1), grey(5, 7, seed=2), grey(5, 7, seed=3)], axis=2)
SHARES = GREY.ravel() / 255
BY_CHANNEL = np.moveaxis(COLOURS, 2, 0).ravel() / 255


def refusal(raw: bytes, shape: tuple[int, int, int] = (1, 5, 7)) -> str:
    with pytest.raises(FederatedError) as caught:
        decode_image(raw, shape)
    assert caught.value.code is ErrorCode.INVALID_VALUE
    return caught.value.message


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (as_file(GREY), SHARES),
        (as_file(GREY, "TIFF"), SHARES),
        (as_file(GREY, "TIFF", compression="tiff_lzw"), SHARES),
        (as_file(DEEP), DEEP.ravel() / 65535),
        (as_file(DEEP, "TIFF"), DEEP.ravel() / 65535),
        (as_file(GREY > 99), (GREY > 99).ravel() * 1.0),
        (as_file(GREY, mode="LA"), SHARES),
        (as_file(COLOURS), (COLOURS @ [0.299, 0.587, 0.114]).ravel() / 255),
        (as_dicom(GREY), SHARES),
        (as_dicom(GREY, ImplicitVRLittleEndian), SHARES),
        (as_dicom(DEEP), DEEP.ravel() / 65535),
        (as_dicom(DEEP & 4095, BitsStored=12, HighBit=11), (DEEP & 4095).ravel() / 4095),
        (as_dicom(GREY, PhotometricInterpretation="MONOCHROME1"), 1 - SHARES),
        (as_dicom(GREY, RescaleSlope="2", RescaleIntercept="-1024"), GREY.ravel() * 2.0 - 1024),
        # In the modality's units it is what it is, however it is shown.
        (
            as_dicom(GREY, PhotometricInterpretation="MONOCHROME1", RescaleSlope="2", RescaleIntercept="-1024"),
            GREY.ravel() * 2.0 - 1024,
        ),
        (
            as_dicom(GREY, PhotometricInterpretation="MONOCHROME1", RescaleSlope="1", RescaleIntercept="0"),
            255.0 - GREY.ravel(),
        ),
        (as_dicom(DEEP.view(np.int16)), DEEP.view(np.int16).ravel() / 65535),
        (as_dicom(DEEP, BitsStored=12, HighBit=11), (DEEP & 4095).ravel() / 4095),
    ],
    ids=lambda given: None,
)  # fmt: skip
def test_a_grey_image_is_shares_of_the_largest_number(raw: bytes, wanted: Any) -> None:
    assert decode_image(raw, (1, 5, 7)) == pytest.approx(wanted, rel=1e-12)


def as_tiff(pixels: np.ndarray[Any, Any], bits: int, interpretation: int) -> bytes:
    """Return a TIFF without compression; interpretation: 0 where 0 is white, 1 where it is black."""
    lines = ("".join(format(one, f"0{bits}b") for one in line) for line in pixels.tolist())
    raw = b"".join(
        int(line.ljust(-(-len(line) // 8) * 8, "0"), 2).to_bytes(-(-len(line) // 8)) for line in lines
    )
    if bits == 16:
        raw = pixels.astype("<u2").tobytes()
    height, width = pixels.shape
    about = {
        256: width,
        257: height,
        258: bits,
        259: 1,
        262: interpretation,
        277: 1,
        278: height,
        279: len(raw),
    }
    tags = sorted({**about, 273: 14 + 12 * (len(about) + 1)}.items())
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II" + struct.pack("<HIH", 42, 8, len(tags)) + entries + bytes(4) + raw


@pytest.mark.parametrize("bits", [4, 8, 12, 16])
@pytest.mark.parametrize("interpretation", [0, 1])
def test_a_tiff_is_shares_of_what_its_bits_hold_whether_0_is_black_or_white(
    bits: int, interpretation: int
) -> None:
    pixels = DEEP >> (16 - bits)
    shares = pixels.ravel() / (2.0**bits - 1)
    raw = as_tiff(pixels, bits, interpretation)
    if (bits, interpretation) == (12, 0):
        assert refusal(raw) == "it is none that can be decoded"
        return
    assert decode_image(raw, (1, 5, 7)) == pytest.approx(
        shares if interpretation else 1 - shares, rel=1e-12, abs=1e-15
    )


@pytest.mark.parametrize("raw", [as_file(COLOURS), as_file(COLOURS, "TIFF"), as_dicom(COLOURS)])
def test_a_colour_image_is_channel_by_channel(raw: bytes) -> None:
    assert decode_image(raw, (3, 5, 7)) == pytest.approx(BY_CHANNEL)


def test_a_palette_is_its_colours_and_a_grey_image_three_equal_channels() -> None:
    few = Image.fromarray(COLOURS).quantize(8)
    wanted = np.moveaxis(np.asarray(few.convert("RGB")), 2, 0).ravel() / 255
    assert decode_image(as_file(np.asarray(few.convert("RGB")), mode="P"), (3, 5, 7)).shape == wanted.shape
    assert decode_image(as_file(GREY), (3, 5, 7)) == pytest.approx(np.tile(SHARES, 3))


def test_alpha_is_a_channel_or_opaque() -> None:
    clear = np.concatenate([COLOURS, GREY[:, :, np.newaxis]], axis=2)
    assert decode_image(as_file(clear), (4, 5, 7)) == pytest.approx(np.concatenate([BY_CHANNEL, SHARES]))
    assert refusal(as_file(clear), (3, 5, 7)) == "it is transparent in places"
    assert decode_image(as_file(COLOURS, mode="RGBA"), (3, 5, 7)) == pytest.approx(BY_CHANNEL)
    assert "no alpha channel" in refusal(as_file(COLOURS), (4, 5, 7))
    assert "transparent" in refusal(as_file(GREY, transparency=int(GREY[0, 0])))
    assert "1, 3 or 4 channels" in refusal(as_file(COLOURS), (2, 5, 7))


def test_jpeg_is_near_what_it_was_made_of_alone_and_within_dicom() -> None:
    smooth = np.add.outer(np.arange(16), np.arange(24)).astype(np.uint8) * 6
    wanted = smooth.ravel() / 255
    alone = decode_image(as_file(smooth, "JPEG", quality=95), (1, 16, 24))
    assert alone == pytest.approx(wanted, abs=0.02)
    assert decode_image(as_dicom(smooth, JPEGBaseline8Bit), (1, 16, 24)) == pytest.approx(alone)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (as_file(grey(7, 5)), "7 high and 5 wide"),
        (as_file(GREY, "BMP"), "can be decoded"),
        (as_file(GREY, "GIF"), "can be decoded"),
        (as_file(GREY, "PPM"), "can be decoded"),
        (as_file(COLOURS, "JPEG", mode="CMYK"), "colours"),
        (as_file(COLOURS, "TIFF", compression="jpeg"), "compression"),
        (as_file(GREY.astype(np.float32), "TIFF"), "colours"),
        (as_file(GREY, "TIFF", save_all=True, append_images=[Image.fromarray(GREY)]), "several images"),
        (as_file(GREY, "PNG", save_all=True, append_images=[Image.fromarray(255 - GREY)]), "several images"),
        (as_dicom(GREY, DeflatedExplicitVRLittleEndian), "transfer syntax"),
        (as_dicom(GREY, NumberOfFrames=2), "several images"),
        (as_dicom(GREY, Rows=7, Columns=5), "7 high and 5 wide"),
        (as_dicom(GREY, PhotometricInterpretation="PALETTE COLOR"), "photometric interpretation"),
        (as_dicom(GREY, RescaleSlope="1e300", RescaleIntercept="0"), "rescale slope"),
        (as_dicom(GREY, HighBit=6), "number of bits"),
        (as_dicom(GREY, PixelData=b"\0" * 8), "as many pixels"),
        (b"", "0 bytes"),
        (b"\0" * (int(IMAGE_BYTES.most) + 1), "bytes"),
    ],
)
def test_what_is_no_such_image_is_refused_with_the_reason(raw: bytes, reason: str) -> None:
    assert reason in refusal(raw)


def test_an_image_that_is_to_be_turned_is_refused() -> None:
    exif = Image.Exif()
    exif[274] = 6
    assert "turned" in refusal(as_file(GREY, "JPEG", exif=exif.tobytes()))
    assert "turned" in refusal(as_file(GREY, "PNG", exif=exif.tobytes()))


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def test_bombs_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what a header says too much, nothing is decoded; of what follows, no more than it says."""
    magic = b"\x89PNG\r\n\x1a\n"

    def png(height: int, width: int, *chunks: bytes) -> bytes:
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        return magic + head + b"".join(chunks) + chunk(b"IEND", b"")

    long = zlib.compress(b"\0" * (1 << 28), 9)
    assert decode_image(png(5, 7, chunk(b"IDAT", long)), (1, 5, 7)).tolist() == [0.0] * 35
    assert "can be decoded" in refusal(png(5, 7, chunk(b"zTXt", b"k\0\0" + long), chunk(b"IDAT", long)))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("was decoded"))
    for sides in ((2**31 - 1, 2**31 - 1), (20_000, 20_000), (10_000, 10_000), (5, 8)):
        refusal(png(*sides, chunk(b"IDAT", long)))
    assert "tiles" in refusal(tiled(as_file(GREY, "TIFF"), 65_520))


def tiled(raw: bytes, side: int) -> bytes:
    """Return a TIFF of strips as one that says that it is of tiles of so many places a side."""
    made = bytearray(raw)
    (start,) = struct.unpack_from("<I", made, 4)
    others = {273: 324, 278: 322, 279: 325, 284: 323}
    for place in range(struct.unpack_from("<H", made, start)[0]):
        tag, kind, count, value = struct.unpack_from("<HHII", made, start + 2 + 12 * place)
        given = side if others.get(tag) in (322, 323) else value
        struct.pack_into("<HHII", made, start + 2 + 12 * place, others.get(tag, tag), kind, count, given)
    return bytes(made)


FILES = [
    as_file(GREY), as_file(COLOURS), as_file(DEEP), as_file(COLOURS, mode="P"), as_file(COLOURS, mode="RGBA"),
    as_file(GREY, "JPEG"), as_file(COLOURS, "JPEG", progressive=True), as_file(GREY, "TIFF"),
    as_file(COLOURS, "TIFF", compression="tiff_lzw"), as_file(COLOURS, "TIFF", compression="tiff_adobe_deflate"),
    as_file(DEEP, "TIFF", compression="packbits"), as_dicom(GREY), as_dicom(DEEP, ImplicitVRLittleEndian),
    as_dicom(COLOURS), as_dicom(GREY, JPEGBaseline8Bit),
]  # fmt: skip


def broken(raw: bytes, rng: random.Random) -> bytes:
    """Cut short, with other bytes in it, or with a part of it twice."""
    made = bytearray(raw)
    match rng.randrange(4):
        case 0:
            return bytes(made[: rng.randrange(len(made))])
        case 1:
            start = rng.randrange(len(made))
            return bytes(made[:start] + made[max(0, start - 9) :])
        case 2:
            for _ in range(rng.randrange(1, 9)):
                made[rng.randrange(len(made))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            return bytes(made)
        case _:
            return rng.choice((b"", bytes(made[:12]), b"\0" * 128 + b"DICM")) + rng.randbytes(
                rng.randrange(300)
            )


@pytest.mark.parametrize("raw", FILES, ids=range(len(FILES)))
def test_whatever_the_bytes_are_they_are_an_image_or_an_error_of_ours(raw: bytes) -> None:
    rng = random.Random(len(raw))
    for _ in range(150):
        given, shape = broken(raw, rng), (rng.choice((1, 3, 4)), 5, 7)
        try:
            found = decode_image(given, shape)
        except FederatedError as error:
            assert error.code is ErrorCode.INVALID_VALUE
            assert "Doe" not in error.message + str(error.detail) + str(error.hint)
        else:
            assert found.shape == (shape[0] * 35,)
            assert np.isfinite(found).all()
            # What is decoded is so again, to the bit.
            assert np.array_equal(found, decode_image(given, shape))

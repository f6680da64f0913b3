"""A task's work to protobuf and back: the one envelope of all steps.

What always holds: what is read back is equal to what was written, every number within its bounds; names of
parts are well-formed, and whether there is such a part is for who uses it.
"""

from __future__ import annotations

from typing import cast, get_args

from heliosdb.domain import bounds
from heliosdb.domain.coding import Coding
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.privacy import Mechanism, Noise, Trust
from heliosdb.domain.task import Privacy, Rounding, Summing, Work
from heliosdb.domain.vector import Dtype
from heliosdb.privacy.ring import FRACTIONS
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.checks import (
    read_below,
    read_digest,
    read_short_name,
    read_whole,
    read_within,
    require,
)
from heliosdb.transport.settings_messages import settings_from_proto, settings_to_proto

_DTYPES = {
    Dtype.FLOAT32: pb.DTYPE_FLOAT32,
    Dtype.FLOAT64: pb.DTYPE_FLOAT64,
    Dtype.UINT8: pb.DTYPE_UINT8,
    Dtype.UINT32: pb.DTYPE_UINT32,
    Dtype.UINT64: pb.DTYPE_UINT64,
    Dtype.UINT16: pb.DTYPE_UINT16,
}
_BY_NUMBER: dict[int, Dtype] = {number: dtype for dtype, number in _DTYPES.items()}


def work_to_proto(work: Work) -> pb.Work:
    """Work for the wire, without the note of its sum, which is part of the task's body."""
    return pb.Work(
        algorithm=work.algorithm,
        size=work.size,
        dtype=dtype_to_proto(work.dtype),
        privacy=None if work.privacy is None else _privacy_to_proto(work.privacy),
        settings=settings_to_proto(work.settings),
        summing=pb.Summing(
            protocol=work.summing.protocol,
            stage=work.summing.stage,
            nodes=work.summing.nodes,
            trust=work.summing.trust,
            state_sha256=work.summing.state_sha256,
            rounding=_rounding_to_proto(work.summing.rounding),
            fraction=work.summing.fraction,
        ),
        codec=work.coding.codec,
        codec_settings=settings_to_proto(work.coding.settings),
        bits=work.coding.bits or 0,
        sent=work.coding.sent or 0,
    )


def work_from_proto(work: pb.Work) -> Work:
    """Work from the wire; the note of its sum is empty."""
    dtype = dtype_from_proto(work.dtype)
    require(_fits(work.size, dtype), "the vector that is asked for is too large")
    return Work(
        algorithm=read_short_name("algorithm", work.algorithm),
        size=work.size,
        dtype=dtype,
        privacy=_privacy_from_proto(work.privacy) if work.HasField("privacy") else None,
        settings=settings_from_proto(work.settings),
        summing=_summing_from_proto(work.summing),
        coding=_coding_from_proto(work, dtype),
    )


def _coding_from_proto(work: pb.Work, dtype: Dtype) -> Coding:
    require(work.bits in {0, 8, 16, 32}, "the bits of a value are out of range")
    require(work.sent <= work.size, "more values are to be sent than there are")
    coding = Coding(
        codec=read_short_name("codec", work.codec),
        settings=settings_from_proto(work.codec_settings),
        bits=work.bits or None,
        sent=work.sent or None,
    )
    require(not coding.is_lossy or dtype.is_real, "elements of a ring are neither rounded nor left out")
    return coding


def dtype_to_proto(dtype: Dtype) -> pb.Dtype:
    """A type of values for the wire."""
    return _DTYPES[dtype]


def dtype_from_proto(number: int) -> Dtype:
    """A type of values from the wire."""
    found = _BY_NUMBER.get(number)
    if found is None:
        raise invalid_value("the vector is of no known type")
    return found


def read_length(length: int, dtype: Dtype) -> int:
    """The length of a vector within the limits."""
    require(_fits(length, dtype), "the vector is too large")
    return length


def mechanism_to_proto(mechanism: Mechanism) -> pb.Mechanism:
    """A mechanism for the wire."""
    return pb.Mechanism(
        noise_multiplier=mechanism.noise_multiplier,
        sampling_rate=mechanism.sampling_rate,
        steps=mechanism.steps,
        noise=_NOISES[mechanism.noise],
    )


def mechanism_from_proto(mechanism: pb.Mechanism) -> Mechanism:
    """A mechanism from the wire: within what a task may ask for."""
    return Mechanism(
        read_within("noise_multiplier", mechanism.noise_multiplier, bounds.NOISE_MULTIPLIER),
        read_within("sampling_rate", mechanism.sampling_rate, bounds.SAMPLING_RATE),
        read_whole("steps", mechanism.steps, bounds.STEPS),
        _read_noise(mechanism.noise),
    )


_NOISES: dict[Noise, pb.Noise] = {"gaussian": pb.NOISE_GAUSSIAN, "laplacian": pb.NOISE_LAPLACIAN}


def _read_noise(number: int) -> Noise:
    for name, one in _NOISES.items():
        if one == number:
            return name
    raise invalid_value("the noise is of no known distribution")


def _fits(length: int, dtype: Dtype) -> bool:
    return length <= limits.MAX_VECTOR_BYTES // dtype.itemsize


def _privacy_to_proto(privacy: Privacy) -> pb.Privacy:
    return pb.Privacy(mechanism=mechanism_to_proto(privacy.mechanism), weight=privacy.weight)


def _privacy_from_proto(privacy: pb.Privacy) -> Privacy:
    return Privacy(
        mechanism_from_proto(privacy.mechanism),
        read_below("weight", privacy.weight, bounds.EXPECTED_SUBJECTS.most, inclusive=True),
    )


def _summing_from_proto(summing: pb.Summing) -> Summing:
    require(0 < summing.nodes <= limits.MAX_NODES, "the number of nodes is out of range")
    told = summing.state_sha256
    trust = summing.trust or "local"
    require(trust in get_args(Trust), "who adds the noise is not known")
    return Summing(
        protocol=read_short_name("sum protocol", summing.protocol),
        stage=read_short_name("sum protocol's stage", summing.stage),
        nodes=summing.nodes,
        trust=cast(Trust, trust),
        state_sha256=read_digest("the state's SHA-256", told) if told else b"",
        rounding=_rounding_from_proto(summing.rounding) if summing.HasField("rounding") else None,
        fraction=_fraction_from_proto(summing),
    )


def _fraction_from_proto(summing: pb.Summing) -> int | None:
    if not summing.HasField("fraction"):
        return None
    require(summing.fraction in FRACTIONS, "the bits behind the point are out of range")
    require(not summing.HasField("rounding"), "values are rounded to few bits, or put into 64")
    return int(summing.fraction)


def _rounding_to_proto(rounding: Rounding | None) -> pb.Rounding | None:
    if rounding is None:
        return None
    return pb.Rounding(bits=rounding.bits, norm=rounding.norm, weight=rounding.weight)


def _rounding_from_proto(rounding: pb.Rounding) -> Rounding:
    require(rounding.bits in {8, 16}, "values are rounded to 8 or 16 bits")
    return Rounding(
        bits=rounding.bits,
        norm=read_within("the norm to which updates are cut", rounding.norm, _ROUNDED_NORM),
        weight=read_within("what all nodes weigh", rounding.weight, _ROUNDED_WEIGHT),
    )


_ROUNDED_NORM, _ROUNDED_WEIGHT = bounds.Bounds(1e-100, 1e100), bounds.Bounds(1.0, 1e16)

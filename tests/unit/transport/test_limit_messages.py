"""Limits survive the wire, and none outside its bounds is taken."""

from __future__ import annotations

import math

import pytest

from heliosdb.domain.errors import FederatedError
from heliosdb.domain.handshake import Introduction
from heliosdb.domain.limits import NO_LIMITS, Limits
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.limit_messages import limits_from_proto, limits_to_proto
from heliosdb.transport.messages import introduction_from_proto, introduction_to_proto


def test_limits_survive_the_wire() -> None:
    limits = Limits(0.5, 2, 12.5, 60.0)
    message = limits_to_proto(limits)
    assert message is not None
    assert limits_from_proto(pb.Limits.FromString(message.SerializeToString())) == limits
    assert limits_to_proto(NO_LIMITS) is None
    assert limits_from_proto(pb.Limits()) == NO_LIMITS


def test_an_introduction_tells_the_nodes_own_limits() -> None:
    said = Introduction((), limits=Limits(8.0, 1, None, 3600.0))
    raw = introduction_to_proto(said).SerializeToString()
    assert introduction_from_proto(pb.Introduction.FromString(raw)) == said


@pytest.mark.parametrize(
    "message",
    [
        pb.Limits(max_memory_gb=0.1),
        pb.Limits(max_memory_gb=math.inf),
        pb.Limits(max_bandwidth_mbps=math.nan),
        pb.Limits(max_bandwidth_mbps=-1.0),
        pb.Limits(max_cpu_cores=10_001),
        pb.Limits(task_limit_seconds=1e10),
    ],
)
def test_a_limit_outside_its_bounds_is_refused(message: pb.Limits) -> None:
    with pytest.raises(FederatedError, match="outside"):
        limits_from_proto(message)

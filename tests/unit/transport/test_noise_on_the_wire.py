"""How the noise of a mechanism is told: what is not known is refused, and what said nothing meant Gaussian."""

from __future__ import annotations

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.privacy import Mechanism
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.work_messages import mechanism_from_proto, mechanism_to_proto


@pytest.mark.parametrize(
    "mechanism", [Mechanism(2.0, 0.5, 3), Mechanism(2.0, 1.0, 1, "laplacian")], ids=lambda one: one.noise
)
def test_a_mechanism_arrives_as_it_was(mechanism: Mechanism) -> None:
    assert mechanism_from_proto(mechanism_to_proto(mechanism)) == mechanism


def test_a_message_of_before_there_was_a_choice_says_gaussian() -> None:
    told = pb.Mechanism(noise_multiplier=2.0, sampling_rate=1.0, steps=1)
    assert mechanism_from_proto(told).noise == "gaussian"


def test_a_noise_that_is_not_known_is_refused() -> None:
    told = pb.Mechanism.FromString(
        pb.Mechanism(noise_multiplier=2.0, sampling_rate=1.0, steps=1).SerializeToString() + b"\x20\x07"
    )
    with pytest.raises(FederatedError) as raised:
        mechanism_from_proto(told)
    assert raised.value.code is ErrorCode.INVALID_VALUE

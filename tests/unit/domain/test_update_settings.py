"""How much of an update is sent, as the options say it."""

from __future__ import annotations

import pytest

from heliosdb.domain.coding import Coding
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.settings import read_settings
from heliosdb.domain.update_settings import UpdateSettings
from heliosdb.domain.vector import Dtype


@pytest.mark.parametrize(
    ("settings", "length", "sent"),
    [
        ({}, 100, None),
        ({"gradient_sparsification": 0.0}, 100, None),
        ({"gradient_sparsification": 0.9}, 10, 1),
        ({"gradient_sparsification": 0.9}, 1000, 100),
        ({"gradient_sparsification": 0.99}, 3, 1),
        ({"gradient_sparsification": 0.1}, 5, None),
        ({"gradient_sparsification": 0.29}, 100, 71),
        ({"top_k": 7}, 100, 7),
        ({"top_k": 100}, 100, None),
        ({"top_k": 10**9}, 100, None),
    ],
)
def test_a_fraction_or_a_number_says_how_many_values_are_sent(
    settings: dict[str, object], length: int, sent: int | None
) -> None:
    assert read_settings(UpdateSettings, settings, exact=True).sent(length) == sent


@pytest.mark.parametrize(("bits", "rounded"), [(None, None), (32, None), (16, 16), (8, 8)])
def test_only_few_bits_are_rounded_to(bits: int | None, rounded: int | None) -> None:
    assert read_settings(UpdateSettings, {"quantization": bits}).bits == rounded


@pytest.mark.parametrize("settings", [{"quantization": 4}, {"top_k": 0}, {"gradient_sparsification": 0.995}])
def test_what_is_out_of_range_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(FederatedError):
        read_settings(UpdateSettings, settings, exact=True)


@pytest.mark.parametrize(
    ("coding", "bytes_"),
    [
        (Coding(), 4_000_000),
        (Coding(bits=16), 2_000_000 + 3907 * 4),
        (Coding(bits=8), 1_000_000 + 3907 * 4),
        (Coding(sent=100_000), 125_000 + 400_000),
        (Coding(bits=8, sent=100_000), 125_000 + 100_000 + 391 * 4),
        (Coding(sent=1000), 4000 + 4000),
    ],
)
def test_a_coding_says_how_many_bytes_there_are_before_they_are_compressed(
    coding: Coding, bytes_: int
) -> None:
    length, dtype = coding.travelling(1_000_000, Dtype.FLOAT32)
    assert length * dtype.itemsize == bytes_

"""How a run's options have its vectors travel: less than all only of updates."""

from __future__ import annotations

from typing import Any

import pytest

from heliosdb.aggregation.coding import coded
from heliosdb.catalog.run_options import parse_options
from heliosdb.domain.coding import Coding
from heliosdb.domain.task import Work
from heliosdb.domain.vector import Dtype

MODEL: dict[str, Any] = {
    "algorithm": "logistic_regression",
    "features": ["age"],
    "target": "ill",
    "rounds": 3,
    "aggregation": "fedavg",
}
FAST = {"compression": "zstd", "quantization": 8, "gradient_sparsification": 0.9}


def travelling(given: dict[str, Any], *, is_update: bool, dtype: Dtype = Dtype.FLOAT64) -> Work:
    return coded(Work("a", 1000, dtype), parse_options({**MODEL, **given}), is_update=is_update)


def test_an_update_is_sent_in_part_and_rounded() -> None:
    work = travelling(FAST, is_update=True)
    assert work.coding == Coding("zstd", {"compression_level": 3}, bits=8, sent=100)


def test_a_sum_keeps_every_bit_and_is_compressed_all_the_same() -> None:
    work = travelling(FAST, is_update=False)
    assert work.coding == Coding("zstd", {"compression_level": 3})
    assert (work.dtype, work.coding.is_lossy) == (Dtype.FLOAT64, False)


@pytest.mark.parametrize(
    ("quantization", "dtype", "bits"),
    [
        (None, Dtype.FLOAT64, None),
        (32, Dtype.FLOAT64, 32),
        (32, Dtype.FLOAT32, None),
        (16, Dtype.FLOAT64, 16),
        (8, Dtype.FLOAT32, 8),
    ],
)
def test_values_are_narrowed_where_they_are_wider(
    quantization: int | None, dtype: Dtype, bits: int | None
) -> None:
    work = travelling({"quantization": quantization}, is_update=True, dtype=dtype)
    assert (work.coding.bits, work.dtype) == (bits, dtype)

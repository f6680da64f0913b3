"""What a run has from its model, and what of that it does not say from its workspace."""

from __future__ import annotations

from typing import Any

import pytest

from heliosdb.catalog.run_options import parse_options
from heliosdb.domain.update_settings import UpdateSettings
from heliosdb.parts.codecs import ZstdSettings

MODEL: dict[str, Any] = {
    "algorithm": "logistic_regression",
    "features": ["age"],
    "target": "ill",
    "rounds": 3,
    "aggregation": "fedavg",
}
WORKSPACE = {"compression": "zstd", "compression_level": 7, "quantization": 8}


@pytest.mark.parametrize(
    ("model", "workspace", "codec", "level", "bits"),
    [
        ({}, {}, "none", 3, None),
        ({}, WORKSPACE, "zstd", 7, 8),
        ({"compression": "lz4"}, WORKSPACE, "lz4", 7, 8),
        ({"compression": "none", "quantization": 32}, WORKSPACE, "none", 7, 32),
        ({"compression_level": 1}, WORKSPACE, "zstd", 1, 8),
        ({"algorithm": "random_forest"}, WORKSPACE, "zstd", 7, None),
        ({"optimizer": "newton"}, WORKSPACE, "zstd", 7, None),
    ],
)
def test_a_model_has_its_own_word_or_its_workspaces(
    model: dict[str, Any], workspace: dict[str, Any], codec: str, level: int, bits: int | None
) -> None:
    options = parse_options({**MODEL, **model}, policy=workspace)
    assert options.codec == codec
    assert options.settings(ZstdSettings).compression_level == level
    assert options.sending == UpdateSettings(quantization=bits)

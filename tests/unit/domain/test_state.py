"""States: what cannot be one is said to be none, wherever it is made, written or read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.state import freeze, state_to_bytes


@pytest.mark.parametrize("make", [freeze, state_to_bytes])
@pytest.mark.parametrize("name", ["\ud800", "weights\udcff"])
def test_a_name_with_half_a_character_is_none(make: Callable[[Any], Any], name: str) -> None:
    with pytest.raises(FederatedError, match="half a character") as raised:
        make({name: np.zeros(1)})
    assert raised.value.code is ErrorCode.INVALID_VALUE

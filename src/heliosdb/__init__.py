"""Federated learning as a feature of PostgreSQL; for people who write Python, its SDK.

What always holds: importing this imports nothing else. A name of the SDK is loaded when it is first asked
for, and needs psycopg alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heliosdb.sdk import (
        AsyncFederatedLearning,
        FederatedLearning,
        FederatedLearningError,
        FederatedLearningWarning,
        TrainingError,
    )

__all__ = [
    "AsyncFederatedLearning",
    "FederatedLearning",
    "FederatedLearningError",
    "FederatedLearningWarning",
    "TrainingError",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("heliosdb.sdk"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

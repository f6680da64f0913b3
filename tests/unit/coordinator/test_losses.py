"""What a failed attempt proves of a release."""

from __future__ import annotations

import pytest

from heliosdb.coordinator.losses import released_nothing
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.transport.carriers import UnsentError
from heliosdb.transport.messages import NodeRefusedError


def refusal(reason: ErrorCode) -> NodeRefusedError:
    return NodeRefusedError("a", reason, "no", detail=None, hint=None)


@pytest.mark.parametrize(
    ("error", "first", "later"),
    [
        (refusal(ErrorCode.BUDGET_EXHAUSTED), True, True),
        (refusal(ErrorCode.UNDEFINED_COLUMN), True, False),
        (refusal(ErrorCode.INTERNAL), False, False),
        (refusal(ErrorCode.UNREACHABLE), False, False),
        (UnsentError(ErrorCode.UNREACHABLE, "refused"), True, False),
        (FederatedError(ErrorCode.UNREACHABLE, "closed"), False, False),
        (FederatedError(ErrorCode.TIMEOUT, "late"), False, False),
        (FederatedError(ErrorCode.UPDATE_REJECTED, "bad"), False, False),
    ],
)
def test_only_what_cannot_have_released_counts_as_nothing(
    error: FederatedError, first: bool, later: bool
) -> None:
    assert released_nothing(error, asked_before=False) is first
    assert released_nothing(error, asked_before=True) is later

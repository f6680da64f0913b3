"""A node that is lost to an exchange: what its failure means for the run, and for what it has released.

What always holds: a node counts as having released nothing only where the failure proves that; what a node
says of its own refusal is never taken for a fault of its update, nor the other way round.
"""

from __future__ import annotations

from heliosdb.catalog.rounds import Settlement
from heliosdb.coordinator.breaches import breach_of
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.events import Loss
from heliosdb.domain.ids import NodeName
from heliosdb.domain.run import Outcome
from heliosdb.domain.update import OversizedUpdateError
from heliosdb.transport.carriers import UnsentError
from heliosdb.transport.client import Traffic
from heliosdb.transport.messages import NodeRefusedError, reason_of

# Refusals that a node may also give after its release was committed.
_NO_PROOF = (ErrorCode.INTERNAL, ErrorCode.UNREACHABLE, ErrorCode.TIMEOUT)


def loss_of(node: NodeName, error: FederatedError) -> Loss:
    """Return what the round machine is told of a node that refused, or whose update is rejected."""
    outcome = {
        ErrorCode.UPDATE_REJECTED: Outcome.REJECTED,
        ErrorCode.IDENTITY: Outcome.DROPPED,
        ErrorCode.UNDEFINED_OBJECT: Outcome.DROPPED,
        ErrorCode.INTERNAL: Outcome.DROPPED,
    }.get(error.code, Outcome.REFUSED)
    over_budget = isinstance(error, NodeRefusedError) and error.reason is ErrorCode.BUDGET_EXHAUSTED
    # A node refuses so what it has computed itself and is not finite.
    not_finite = isinstance(error, NodeRefusedError) and error.reason is ErrorCode.UPDATE_REJECTED
    diverging = not_finite or isinstance(error, OversizedUpdateError)
    return Loss(node, outcome, reason_of(error), over_budget, diverging, error.hint, breach_of(error))


def kind_of(error: FederatedError) -> str:
    """Return the kind of an error, in one of few words."""
    code = error.reason if isinstance(error, NodeRefusedError) else error.code
    return code.name.lower()


def released_nothing(error: FederatedError, *, asked_before: bool) -> bool:
    """Say whether an attempt that failed proves that its task was never answered.

    A node that has answered a task sends the same again, and looks for that before its budget: so a refusal
    for the budget proves it even where an earlier attempt broke off; any other failure speaks for itself.
    """
    if isinstance(error, NodeRefusedError):
        if error.reason is ErrorCode.BUDGET_EXHAUSTED:
            return True
        return not asked_before and error.reason not in _NO_PROOF
    return not asked_before and isinstance(error, UnsentError)


def settle_loss(loss: Loss, traffic: Traffic | None) -> Settlement:
    """Return how it ended for a node that is lost, for the records. traffic: None where it was not asked."""
    return Settlement(
        loss.node,
        loss.outcome,
        loss.reason,
        bytes_sent=None if traffic is None else traffic.sent,
        bytes_received=None if traffic is None else traffic.received,
        breach=loss.breach,
    )

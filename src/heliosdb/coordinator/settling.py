"""How an exchange that is over is recorded, whichever way it came to its end.

What always holds: whoever is asked nothing more in a round has nothing reserved for later, and what was not
asked is not spent.
"""

from __future__ import annotations

from heliosdb.coordinator.buffering import AnyExchange
from heliosdb.coordinator.records import Settled
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.run_state import RunState


def settle(state: RunState, exchange: AnyExchange) -> Settled:
    """How the exchange ended; whoever is asked nothing more in the round has nothing reserved for later."""
    question = exchange.question
    if question.exchange != state.exchange:
        return _unasked(state)
    return Settled(
        question.exchange,
        question.step.name,
        exchange.settle(state.answered, state.lost),
        unspent=exchange.unspent() - state.answered,
        gone=state.cohort,
    )


def settle_at_end(
    state: RunState, exchange: AnyExchange | None, committed_here: tuple[RoundNumber, int] | None
) -> Settled | None:
    """What there is to settle where a run ends within a round: what was not asked is not spent.

    committed_here: the exchange that this coordinator has committed and not asked yet.
    """
    if exchange is not None:
        return settle(state, exchange)
    if committed_here == (state.round, state.exchange):
        return _unasked(state)
    if state.asked is not None and state.closed < state.round:
        # Another coordinator may have asked this exchange, but none that comes later.
        return Settled(state.exchange, gone=state.cohort)
    return None


def _unasked(state: RunState) -> Settled:
    """The exchange is committed, and nobody was asked for it."""
    return Settled(state.exchange - 1, gone=state.cohort)

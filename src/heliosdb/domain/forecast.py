"""What a run would ask of its nodes, and what that would cost, as far as it is known before it is queued.

What always holds: None is what only the run itself finds out.
"""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.domain.errors import FederatedError
from heliosdb.domain.privacy import Noise


@dataclass(frozen=True, slots=True)
class Release:
    """A private release as it is planned. times: how often the run makes it; epsilon: of one alone, at the
    workspace's delta."""

    step: str
    is_preparation: bool
    times: int
    noise_multiplier: float
    sampling_rate: float
    steps: int
    epsilon: float
    noise: Noise = "gaussian"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a run under a budget.

    spent: ε of the node that has spent the most. releases: as far as they are planned. reached: ε of all that
    was and would be released, composed; None where round 0 has to tell how many subjects there are. missing:
    why that is. refused: why the coordinator would end the run before a node is asked.
    """

    spent: float
    releases: tuple[Release, ...] = ()
    reached: float | None = None
    missing: str | None = None
    refused: FederatedError | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """preparing, training: the steps of round 0 and of each later round, each an exchange or more.
    messages: how many exchanges the sum protocol takes for each.

    further, asks_further: whether more exchanges may follow in a training round, and in round 0, by what
    answers say. evaluations: how many rounds
    end with one. reports: whether the model that is published is reported on; None where round 0 decides.
    parameters: how many numbers
    move. bytes_down, bytes_up: of one training exchange with one node, of the values alone,
    as many as are sent and in as many bits, neither compressed nor sealed; None under a sum protocol of
    several messages, whose size goes by who answered the one before.
    """

    preparing: tuple[str, ...]
    training: tuple[str, ...]
    further: bool
    asks_further: bool
    rounds: int
    evaluations: int
    reports: bool | None
    messages: int = 1
    inputs: int | None = None
    parameters: int | None = None
    bytes_down: int | None = None
    bytes_up: int | None = None
    cost: Cost | None = None

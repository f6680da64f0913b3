"""What a round takes, measured while it is driven: when its phases begin and end, and what nodes used.

What always holds: nothing is decided by what is measured here; of a phase that another coordinator began only
what the nodes' releases carry and what was counted here is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from heliosdb.aggregation import Agreement
from heliosdb.catalog.performance import Measured, PhaseFigures, RoundPhase
from heliosdb.domain.ids import NodeName
from heliosdb.domain.usage import Meter, Moment, Usage, peak_memory
from heliosdb.transport.client import Traffic


@dataclass(slots=True)
class ExchangeMeter:
    """What passes in one exchange. fresh: no coordinator has asked this before."""

    fresh: bool
    began: Moment = field(default_factory=Moment.now)
    traffic: dict[NodeName, Traffic] = field(default_factory=dict)
    usage: dict[NodeName, Usage | None] = field(default_factory=dict)

    def count(self, node: NodeName) -> Traffic:
        """Return where the node's bytes are counted, over all attempts."""
        return self.traffic.setdefault(node, Traffic())

    def phases(self, counted: Iterable[NodeName], ended: Moment) -> list[PhaseFigures]:
        """Return distribution and local training; counted: the nodes whose updates are combined."""
        nodes = list(counted)
        handed = [moment for node in nodes if (moment := self.count(node).whole) is not None]
        last = max(handed, key=lambda moment: moment.wall) if handed and self.fresh else None
        distributing = None if last is None else (last.wall - self.began.wall, last.cpu - self.began.cpu)
        told = [usage for node in nodes if (usage := self.usage.get(node)) is not None]
        return [
            PhaseFigures(
                RoundPhase.DISTRIBUTION,
                duration_seconds=distributing and distributing[0],
                cpu_seconds=distributing and distributing[1],
                busy_seconds=distributing and distributing[0],
                memory_bytes=peak_memory(),
                bytes_sent=sum(each.sent for each in self.traffic.values()),
            ),
            PhaseFigures(
                RoundPhase.LOCAL_TRAINING,
                duration_seconds=None if last is None else max(ended.wall - last.wall, 0.0),
                cpu_seconds=sum(usage.cpu_seconds for usage in told) if told else None,
                busy_seconds=sum(usage.seconds for usage in told) if told else None,
                memory_bytes=max((usage.memory_bytes for usage in told), default=None),
                bytes_received=sum(each.received for each in self.traffic.values()),
            ),
        ]


class RoundMeter:
    """One round's figures between the moment they are known and the transaction that records them.

    is_whole: no other coordinator has combined any of the round's exchanges.
    """

    def __init__(self, *, is_whole: bool = True) -> None:
        self._is_whole = is_whole
        self._aggregation: Meter | None = None
        self._phases: list[PhaseFigures] = []
        self._agreement = Agreement()

    def combining_begins(self, phases: list[PhaseFigures]) -> None:
        """The updates of an exchange that the round needs are there."""
        self._phases = phases
        if self._aggregation is None and self._is_whole:
            self._aggregation = Meter()
        self.go_on()

    def compared(self, agreement: Agreement) -> None:
        """The updates were compared with each other."""
        self._agreement = agreement

    def pause(self) -> None:
        """The nodes compute now, which is no aggregation."""
        if self._aggregation is not None:
            self._aggregation.pause()

    def go_on(self) -> None:
        """Their answers are there."""
        if self._aggregation is not None:
            self._aggregation.start()

    def take(self) -> Measured:
        """Return what is known and not recorded yet, for the transaction that keeps what training led to."""
        measured = Measured(self._phases, self._agreement)
        self._phases, self._agreement = [], Agreement()
        return measured

    def finish(self) -> Measured:
        """Return the rest, for the transaction that closes the round; it is to be written there last."""
        measured = self.take()
        return Measured([*measured.phases, self._read_aggregation()], measured.agreement)

    def _read_aggregation(self) -> PhaseFigures:
        """What combining and committing took up to now; not known where it began elsewhere."""
        if self._aggregation is None:
            return PhaseFigures(RoundPhase.AGGREGATION, memory_bytes=peak_memory())
        used = self._aggregation.read()
        return PhaseFigures(
            RoundPhase.AGGREGATION, used.seconds, used.cpu_seconds, used.seconds, used.memory_bytes
        )

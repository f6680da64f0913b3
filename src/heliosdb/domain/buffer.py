"""Who trains in an asynchronous run, and what has arrived of it: the part of its state that outlives a round.

What always holds: a node is asked for one training at a time, and for the next one only once what became of
the last is committed; so nothing that it sent can be needed when it holds that no longer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from heliosdb.domain.events import Loss, Names
from heliosdb.domain.ids import NodeName, RoundNumber


@dataclass(frozen=True, slots=True, order=True)
class Asked:
    """A training task, named by the round in which its node was asked: it begins with the model before it."""

    round: RoundNumber
    node: NodeName


@dataclass(frozen=True, slots=True)
class Buffer:
    """at_work: have not answered. waiting: have, in the order of arrival, and belong to no round yet. taken:
    make the open round. gone: what was lost of tasks and is not committed. overdue: rounds whose stragglers
    are done without once the others are enough.
    """

    at_work: frozenset[Asked] = frozenset()
    waiting: tuple[Asked, ...] = ()
    taken: tuple[Asked, ...] = ()
    gone: tuple[Loss, ...] = ()
    overdue: frozenset[RoundNumber] = frozenset()

    @property
    def busy(self) -> Names:
        """The nodes that are not to be asked anew."""
        return names(self.at_work) | names(self.waiting)

    @property
    def coming(self) -> int:
        """How many updates there are, or may come yet."""
        return len(self.at_work) + len(self.waiting) + len(self.taken)

    @property
    def held(self) -> frozenset[RoundNumber]:
        """The rounds whose models tasks begin with that nothing is committed of."""
        return frozenset(RoundNumber(one.round - 1) for one in (*self.at_work, *self.waiting))

    def arrived(self, task: Asked) -> Buffer:
        """Return it with the answer to a task."""
        return replace(self, at_work=self.at_work - {task}, waiting=(*self.waiting, task))

    def without(self, task: Asked, loss: Loss) -> Buffer:
        """Return it with a task that nobody waits for any more."""
        lost = replace(loss, asked=task.round)
        return replace(self, at_work=self.at_work - {task}, gone=(*self.gone, lost))

    def again(self) -> Buffer:
        """Return it with everybody at work again, of whom nothing is committed and nothing was lost."""
        return Buffer(self.at_work.union(self.waiting, self.taken), gone=self.gone)

    def fill(self, size: int) -> Buffer:
        """Return it with the round filled, up to so many, by those that wait, the first first."""
        room = size - len(self.taken)
        return replace(self, taken=(*self.taken, *self.waiting[:room]), waiting=self.waiting[room:])


EMPTY = Buffer()


def names(tasks: frozenset[Asked] | tuple[Asked, ...]) -> Names:
    """Return whose tasks they are."""
    return frozenset(task.node for task in tasks)

"""Which of the nodes that are there can answer a run, by what they said when they were last greeted."""

from __future__ import annotations

from collections.abc import Sequence

from heliosdb.coordinator.directory import Member
from heliosdb.domain import contract
from heliosdb.domain.contract import Eligibility, Offer
from heliosdb.domain.run import TrainingOptions


def select_nodes(members: Sequence[Member], options: TrainingOptions) -> Eligibility:
    """Sort the nodes that are there by whether they share what the run reads."""
    offers = [Offer(one.name, one.record.dataset, one.introduction) for one in members]
    return contract.select(offers, options)


def boolean_features(members: Sequence[Member], options: TrainingOptions) -> tuple[bool, ...]:
    """Return for each feature whether it is boolean at every one of these nodes, which are able to train."""
    return contract.boolean_features(list(select_nodes(members, options).able.values()), options)

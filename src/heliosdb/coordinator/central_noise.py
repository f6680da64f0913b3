"""The noise of a sum that the coordinator adds, where a workspace trusts it with that (trust_model central).

What always holds: it is added to the opened sum before anything reads that: no figure, note, log line or row
of the catalog is made of a sum without it, and neither is a second one of the same sum. For noise drawn anew
for a sum that was noised before would cancel out on average; so it follows from a key that stays outside the
database and from the sum itself (as the nonces of RFC 6979 follow from what is signed). A coordinator that is
killed between sum and commit, or whose database is set back, comes to the same noised sum again; another sum
has noise that is independent of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from fractions import Fraction

from heliosdb import faults
from heliosdb.coordinator.course import Question
from heliosdb.domain.ids import NodeName
from heliosdb.domain.update import Total
from heliosdb.privacy.derived import derived_entropy
from heliosdb.privacy.shares import add_share


@dataclass(frozen=True, slots=True)
class CentralNoise:
    """What a coordinator draws a workspace's noise from. key: 32 bytes, that nobody else has."""

    key: bytes = field(repr=False)

    def add(self, question: Question, total: Total, group: Collection[NodeName] = ()) -> Total:
        """Return the sum of a question's answers with all the noise that is the coordinator's to add.

        group: whose sum it is, of a question with a sum for each group; () where all are summed together.
        """
        privacy = question.asked.work.privacy
        if question.asked.work.summing.trust != "central" or privacy is None:
            return total
        noise_multiplier, sensitivity = privacy.mechanism.noise_multiplier, question.sensitivity
        plan, exact = question.plan, hashlib.sha256(total.vector.tobytes()).digest()
        named = (
            plan.round,
            question.exchange,
            str(question.step.name),
            noise_multiplier,
            sensitivity,
            sorted(group),
        )
        entropy = derived_entropy(self.key, plan.run.id.bytes + exact + repr(named).encode())
        noised = add_share(total.vector, sensitivity, noise_multiplier, Fraction(1), entropy)
        faults.reach("coordinator.sum.noised")
        return replace(total, vector=noised, variance=1.0)

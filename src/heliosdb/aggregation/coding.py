"""How the options of a run have the vectors of its tasks travel.

What always holds: less than all of a vector is sent only of an update, which a rule combines; of every other
answer each bit arrives, so that sums, counts and measures are what they are without any coding.
"""

from __future__ import annotations

from dataclasses import replace

from heliosdb.domain.coding import NARROW, Coding
from heliosdb.domain.run import TrainingOptions
from heliosdb.domain.settings import settings_of
from heliosdb.domain.task import Work
from heliosdb.parts.codecs import CODECS


def coded(work: Work, options: TrainingOptions, *, is_update: bool) -> Work:
    """Return the work with how its vector travels under these options.

    is_update: whether the vector is how far a model's parameters moved. FederatedError NOT_SUPPORTED for a
    codec that there is not.
    """
    entry = CODECS.entry(options.codec)
    coding = Coding(entry.name, settings_of(options.settings(entry.settings)))
    if not is_update:
        return replace(work, coding=coding)
    asked = options.sending
    # What is computed as float32 needs no 32 bits of its own.
    bits = None if asked.bits is None and work.dtype is NARROW else asked.quantization
    return replace(work, coding=replace(coding, bits=bits, sent=asked.sent(work.size)))

"""What START says of a workspace's options about noise.

What always holds: where two options set the noise, it is said which rule decides. Everything here follows
from the options alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from heliosdb.catalog import commands as catalog


def describe_noise(policy: catalog.Options) -> Iterator[str]:
    """Say which of several rules decides how much noise there is."""
    total, given, each = (
        policy.get(name) for name in ("privacy_budget", "noise_multiplier", "privacy_per_round")
    )
    if total is None:
        return
    if given is not None:
        yield (
            f"noise_multiplier {given:g} and privacy_budget {total:g} both say how much noise there is: the"
            " stricter decides, and the run's message tells which"
        )
    if each is not None and each > total:
        yield f"privacy_per_round {each:g} is more than the privacy_budget {total:g}, which decides"

"""What START refuses, and says, of a workspace's options about noise.

What always holds: an option that would be without effect is refused; where two options set the noise, it is
said which rule decides. Everything here follows from the options alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from heliosdb.catalog import commands as catalog
from heliosdb.domain.errors import invalid_value


def check_noise_options(policy: catalog.Options) -> None:
    """Raise 22023 for what has no effect without a budget."""
    if policy.get("privacy_budget") is not None:
        return
    for name, default in (("noise_mechanism", "gaussian"), ("subjects_overlap", False)):
        if policy.get(name, default) != default:
            raise invalid_value(
                f"{name} has no effect without a privacy_budget",
                hint=f"Give the workspace a privacy_budget, or ALTER FEDERATED WORKSPACE ... RESET ({name}).",
            )


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

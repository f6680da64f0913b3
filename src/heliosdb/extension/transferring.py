"""START with transfer_from: the version that a run would begin with, and what is said of it.

What always holds: what is refused here is refused before a run is queued; which version it is the catalog
writes into the run's row, as it stands then (sql/lineage.sql).
"""

from __future__ import annotations

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.catalog import commands as catalog
from heliosdb.catalog import origins
from heliosdb.catalog.origins import Named
from heliosdb.domain.run import TrainingOptions
from heliosdb.extension.session import Session
from heliosdb.parts.transfer import check_source, check_transfer, frozen_layers


def check_transferring(session: Session, options: TrainingOptions, policy: catalog.Options) -> list[str]:
    """Raise FederatedError where a run of these options cannot begin as they say; returns what START says."""
    check_transfer(options)
    named = find_named(session, options, policy)
    if named is None:
        return []
    if not named.is_owned:
        raise FederatedError(
            ErrorCode.PRIVILEGE,
            f'must be owner of federated model "{named.model}"',
            detail="Whoever begins with a version hands its numbers to the nodes of another run.",
        )
    return [*check_source(options, named.name, named.options), *_describe_cost(named, policy)]


def find_named(session: Session, options: TrainingOptions, policy: catalog.Options) -> Named | None:
    """Return the version that a run would begin with; None for none, errors as the catalog has them."""
    reference = options.given.get("transfer_from")
    if not reference:
        return None
    return origins.read_parent(session.connection, reference, dict(options.given), policy)


def describe_beginning(named: Named, options: TrainingOptions) -> str:
    """Say in the plan what a run would begin with."""
    frozen = frozen_layers(options)
    if not frozen:
        return named.name
    return f"{named.name}, of which the first {'layer stays' if frozen == 1 else f'{frozen} layers stay'}"


def _describe_cost(named: Named, policy: catalog.Options) -> list[str]:
    """Say what the run's epsilon does not tell of."""
    if policy.get("privacy_budget") is None:
        return []
    if named.epsilon is None:
        return [
            f"{named.name} was trained without a privacy_budget: what it learned this run's epsilon does not"
            " bound"
        ]
    if named.workspace == policy.get("workspace"):
        return []
    return [
        f"{named.name} has cost epsilon {named.epsilon:.6g} in federated workspace"
        f' "{named.workspace}", which comes on top of what this run costs'
    ]

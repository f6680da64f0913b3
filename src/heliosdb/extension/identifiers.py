"""Whether a dataset that is shared or altered has columns that look like identifiers, said to who shares it.

What always holds: values are read with the caller's own rights and go nowhere; what is said of them is a kind
and one of three shares, to the dataset's owner in his own session.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from federated_sql.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.catalog import compliance as catalog
from heliosdb.catalog.commands import Options
from heliosdb.domain.ids import DatasetName
from heliosdb.extension.session import Session
from heliosdb.phi.kinds import Finding
from heliosdb.phi.scan import (
    Column,
    find_in_catalog,
    find_in_values,
    has_telling_values,
    pending,
    sample_size,
)

PHI_OPTIONS = ("phi_check", "phi_accepted")


def look_for_identifiers(session: Session, name: DatasetName, options: Options) -> None:
    """Look through a dataset as it is shared now, and keep what was found; a WARNING says it.

    Raises FederatedError 22023 where its own phi_check is refuse, and where phi_accepted names what is not
    shared. Without a phi_check the node decides, by the compliance mode of the workspace that asks.
    """
    columns = catalog.read_shared_columns(session.connection, name)
    accepted = _accepted(options)
    _check_accepted(accepted, columns)
    if options.get("phi_check") == "off":
        catalog.record_findings(session.connection, name, ())
        return
    findings = [*find_in_catalog(columns), *_look_at_values(session, name, columns)]
    catalog.record_findings(session.connection, name, findings)
    open_ones = pending(findings, accepted)
    if open_ones:
        _say(session, name, open_ones, options.get("phi_check"))


def _accepted(options: Options) -> tuple[str, ...]:
    given = options.get("phi_accepted")
    return tuple(map(str, given)) if isinstance(given, list) else ()


def _check_accepted(accepted: Iterable[str], columns: Sequence[Column]) -> None:
    shared = {column.name for column in columns}
    for name in accepted:
        if name not in shared:
            raise invalid_value(
                f'phi_accepted names "{name}", which is no column that the dataset shares',
                hint=f"It shares {', '.join(column.name for column in columns)}.",
            )


def _look_at_values(session: Session, name: DatasetName, columns: Sequence[Column]) -> list[Finding]:
    telling = [column for column in columns if has_telling_values(column)]
    if not telling:
        return []
    names = [column.name for column in telling]
    shown = catalog.sample_dataset(
        session.connection, name, names, sample_size(len(telling)), session.schemas
    )
    return [one for column in telling for one in find_in_values(column, shown.get(column.name, ()))]


def _say(session: Session, name: DatasetName, findings: Sequence[Finding], check: object) -> None:
    detail = "; ".join(map(describe, findings)) + "."
    message = f'columns of dataset "{name}" look like identifiers of people'
    if check == "refuse":
        raise FederatedError(
            ErrorCode.INVALID_VALUE,
            message,
            detail=detail,
            hint="Leave them out of the column list, or name those that may be shared in phi_accepted.",
        )
    consequence = "" if check == "warn" else " Under compliance_mode HIPAA or BOTH the node refuses them."
    session.warning(
        message,
        detail=detail,
        hint=f"Leave them out, or name those that may be shared in phi_accepted.{consequence}",
    )


def describe(finding: Finding) -> str:
    """Say what one column looks like, and by what."""
    share = "" if finding.share is None else f", {finding.share.value} of those looked at"
    return f"{finding.column}: {finding.kind.value} (by its {finding.evidence.value}{share})"

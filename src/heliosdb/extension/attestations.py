"""ATTEST FEDERATED COMPLIANCE: a person says what no program can know, with a day on which it ends.

What always holds: the author is the invoking role; nothing that fails is met by an attestation.
"""

from __future__ import annotations

import difflib
import re
from datetime import date

from federated_sql.compliance_statements import AttestCompliance
from federated_sql.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.catalog import attestations as catalog
from heliosdb.extension.session import Session, undefined_here

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def attest_compliance(session: Session, command: AttestCompliance) -> None:
    """ATTEST FEDERATED COMPLIANCE: the newest attestation of a requirement counts, older ones are kept."""
    session.require("federated_auditor", "attest compliance")
    workspace_id = catalog.find_workspace_id(session.connection, command.workspace)
    if workspace_id is None:
        raise undefined_here("workspace", command.workspace)
    requirement = _find_requirement(session, command.requirement)
    until = _day(command.until)
    status = catalog.insert_attestation(session.connection, workspace_id, requirement, until, command.text)
    if status == "PASS":
        session.notice(
            f'requirement "{requirement}" passes by what is seen now; the attestation counts where that'
            " cannot tell"
        )


def _find_requirement(session: Session, wanted: str) -> str:
    """The requirement as the check names it, whatever the case of its letters; 42704 names the nearest."""
    known = catalog.list_requirements(session.connection)
    by_fold = {name.casefold(): name for name in known}
    found = by_fold.get(wanted.casefold())
    if found is not None:
        return found
    near = difflib.get_close_matches(wanted.casefold(), by_fold, 1, 0.5)
    raise FederatedError(
        ErrorCode.UNDEFINED_OBJECT,
        f'requirement "{wanted}" does not exist',
        hint=f'Did you mean "{by_fold[near[0]]}"?'
        if near
        else "SELECT * FROM federated_compliance_requirements; lists them.",
    )


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text.strip() if _DAY.fullmatch(text.strip()) else "")
    except ValueError as error:
        raise invalid_value(
            f'"{text}" is not a day', hint="Write the last day on which it counts as YYYY-MM-DD."
        ) from error

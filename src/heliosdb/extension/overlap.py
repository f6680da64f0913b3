"""Workspaces whose data subjects may be in several nodes: one delta for all that is added up.

What always holds: with `subjects_overlap` every line of the workspace's ledger, past and to come, is at the
same delta / max_nodes. A node that takes part no more keeps the figure that its last line has; a later change
of these options would add it up as though it were at another delta.
"""

from __future__ import annotations

from federated_sql.options import OptionKind, defaults
from heliosdb.catalog import commands as catalog
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.extension.session import Session

_OPTIONS = ("subjects_overlap", "max_nodes", "delta")
_HINT = "CREATE FEDERATED WORKSPACE under another name with the options that are to hold."


def check_overlap(session: Session, workspace: catalog.Workspace, options: catalog.Options) -> None:
    """Raise 55000 for a change of what each node's delta follows from, where the ledger has lines, or a run
    under way may write some, and `subjects_overlap` is on before or after."""
    standard = defaults(OptionKind.WORKSPACE, session.built)
    before, after = {**standard, **workspace.options}, {**standard, **options}
    changed = [name for name in _OPTIONS if before.get(name) != after.get(name)]
    overlaps = before.get("subjects_overlap") or after.get("subjects_overlap")
    if changed and overlaps and catalog.may_have_spent(session.connection, workspace):
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f"{' and '.join(changed)} cannot be changed: nodes have spent at the delta that is now",
            detail="With subjects_overlap each node's epsilon is at delta / max_nodes, so that their sum is"
            " at delta; nodes have spent from the budget, or a run that may is queued or running.",
            hint=_HINT,
        )


def check_recreated(session: Session, name: str, options: catalog.Options) -> None:
    """Raise 55000 for a workspace with `subjects_overlap` whose name has a ledger already: nothing says at
    which delta its lines are."""
    if options.get("subjects_overlap") and catalog.has_ledger(session.connection, name):
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f'subjects_overlap is not possible for federated workspace "{name}": its ledger has lines',
            detail="An earlier workspace of this name has spent, and nothing says that it was at the same"
            " delta / max_nodes.",
            hint=_HINT,
        )

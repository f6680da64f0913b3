"""What START can tell beforehand of budgets that stand in a run's way.

What always holds: nothing is refused here: a warning says what the catalog shows now, and the run finds out.
"""

from __future__ import annotations

from federated_sql.options import OptionKind, defaults
from heliosdb.catalog import commands as catalog
from heliosdb.domain.forecast import Cost
from heliosdb.domain.wording import counted
from heliosdb.extension.session import Session

LITTLE = 0.02
"""The part of a budget below which what is left is hardly enough for a model: runs spend all that is left, to
within a thousandth."""


def warn_of_budgets(session: Session, model: catalog.Model, policy: catalog.Options) -> None:
    """Warn of a budget that is nearly spent, and of tables that have spent from one in a run without."""
    if policy.get("privacy_budget") is None:
        _warn_of_spent_tables(session, model)
    else:
        _warn_of_a_spent_budget(session, model, policy["privacy_budget"])
        warn_of_delta(session, model.workspace, policy)


def _warn_of_a_spent_budget(session: Session, model: catalog.Model, total: float) -> None:
    consumed = catalog.consumed_epsilon(session.connection, model.workspace)
    if total - consumed < LITTLE * total:
        session.warning(
            f"epsilon {consumed:.6g} of the {total:g} of federated workspace"
            f' "{model.workspace.name}" is consumed: what is left is hardly enough for a model'
        )


def warn_of_delta(session: Session, workspace: catalog.Workspace, options: catalog.Options) -> None:
    """Warn where giving one subject's rows away with probability delta would count as private.

    options: of the workspace; of a delta that they do not name the default holds.
    """
    if options.get("privacy_budget") is None:
        return
    delta = float({**defaults(OptionKind.WORKSPACE, session.built), **options}["delta"])
    rows = catalog.count_known_rows(session.connection, workspace)
    if rows and delta >= 1.0 / rows:
        session.warning(
            f"delta {delta:g} is not less than one in the {counted(rows, 'row')} that the nodes of federated"
            f' workspace "{workspace.name}" have told of or declare: it is to be far less'
        )


def warn_of_an_early_end(session: Session, cost: Cost | None) -> None:
    """Warn where the budget does not reach for the run's first round: its coordinator will ask no node."""
    if cost is None or cost.refused is None:
        return
    why = cost.refused
    session.warning(
        f"the run will end before a node is asked: {why.message}", detail=why.detail, hint=why.hint
    )


def _warn_of_spent_tables(session: Session, model: catalog.Model) -> None:
    nodes = catalog.list_private_nodes(session.connection, model.workspace)
    if nodes:
        session.warning(
            "this run has no privacy budget, and of federated workspace"
            f' "{model.workspace.name}" these nodes have answered under one: {", ".join(nodes)};'
            " a table that has spent from a budget gives no answer without noise"
        )

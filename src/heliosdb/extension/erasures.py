"""DELETE FROM FEDERATED TRAINING: the subjects are to be forgotten by every node of the model's workspace.

What always holds: the statement asks; what was done is what the nodes sign, and the coordinator certifies.
What it may cost of a privacy budget is said before, or it is refused.
"""

from __future__ import annotations

from federated_sql.errors import ErrorCode, FederatedError
from federated_sql.options import OptionKind, defaults, validate
from federated_sql.render import quote_name
from federated_sql.statements import EraseSubjects
from heliosdb.catalog import commands as catalog
from heliosdb.catalog import erasures
from heliosdb.domain.erasure import RETRAIN
from heliosdb.domain.orders import OrderKind
from heliosdb.extension.models import find_model
from heliosdb.extension.orders import place_orders
from heliosdb.extension.session import Session

_LEAST_SHARE = 0.01
"""Of a budget: with less than that left a run releases little but noise."""


def erase_subjects(session: Session, command: EraseSubjects) -> None:
    """DELETE FROM FEDERATED TRAINING."""
    session.require("federated_admin", "erase data subjects")
    given = validate(OptionKind.ERASURE, command.options, session.built)
    model = find_model(session, command.model)
    session.own_workspace(model.workspace)
    policy = {**defaults(OptionKind.WORKSPACE, session.built), **model.workspace.options}
    terms = {
        "method": given.get("method", RETRAIN),
        "during_erasure": given.get("during_erasure") or policy["during_erasure"],
    }
    retrains = terms["method"] == RETRAIN
    said = [*_price(session, model), *_votes(session, model)] if retrains else []
    place_orders(session, OrderKind.ERASE, model.workspace.name, command.subjects, terms, model=model.name)
    for one in said:
        session.notice(one)


def _votes(session: Session, model: catalog.Model) -> list[str]:
    """Say what nothing takes the place of by itself."""
    return [
        f'the version by vote of federated model "{name}" is retired, if it had learned from the subjects,'
        f" and none takes its place: START FEDERATED TRAINING {quote_name(name)} makes the next"
        for name in erasures.list_votes(session.connection, model.workspace.workspace_id)
    ]


def _price(session: Session, model: catalog.Model) -> list[str]:
    """Say what training anew may spend; UF001 where the budget cannot pay."""
    said = []
    for cost in erasures.list_costs(session.connection, model.workspace.workspace_id):
        if cost.remaining < _LEAST_SHARE * cost.total:
            raise FederatedError(
                ErrorCode.BUDGET_EXHAUSTED,
                f'the privacy budget cannot pay for training federated model "{cost.model}" anew',
                detail=f"Epsilon {cost.remaining:.6g} of {cost.total:.6g} remains.",
                hint="WITH (method = 'suppress_only') has the nodes leave the subjects out from now on and"
                " versions keep what they learned; a larger privacy_budget pays for more.",
            )
        said.append(
            f'training federated model "{cost.model}" anew, if it had learned from the subjects, may spend'
            f" epsilon {cost.epsilon:.6g} of the {cost.remaining:.6g} that remain"
        )
    return said

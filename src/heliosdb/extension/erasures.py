"""DELETE FROM FEDERATED TRAINING: the subjects are to be forgotten by every node of the model's workspace.

What always holds: the statement asks; what was done is what the nodes sign.
"""

from __future__ import annotations

from federated_sql.statements import EraseSubjects
from heliosdb.domain.orders import OrderKind
from heliosdb.extension.models import find_model
from heliosdb.extension.orders import place_orders
from heliosdb.extension.session import Session


def erase_subjects(session: Session, command: EraseSubjects) -> None:
    """DELETE FROM FEDERATED TRAINING."""
    session.require("federated_admin", "erase data subjects")
    model = find_model(session, command.model)
    session.own_workspace(model.workspace)
    place_orders(session, OrderKind.ERASE, model.workspace.name, command.subjects, {}, model=model.name)

"""Statements about who may subscribe to a model, typed where it is trained by its owner.

What always holds: a grant decides what is offered from now on. What was delivered is the other
organisation's: no statement here takes it back, and REVOKE says so.
"""

from __future__ import annotations

from federated_sql.render import quote_name, quote_string
from federated_sql.serving_statements import GrantSubscribe, RevokeSubscribe
from heliosdb.catalog import commands as catalog
from heliosdb.catalog import subscriptions
from heliosdb.extension.models import find_model
from heliosdb.extension.session import Session, undefined


def grant_subscribe(session: Session, command: GrantSubscribe) -> None:
    """GRANT FEDERATED SUBSCRIBE: to a node that is registered, or to all there are and will be."""
    session.require("federated_operator", "grant the right to subscribe to a federated model")
    model = find_model(session, command.model)
    _require_node(session, model, command.node)
    subscriptions.grant_subscribe(session.connection, model, command.node)
    catalog.notify_coordinator(session.connection)


def revoke_subscribe(session: Session, command: RevokeSubscribe) -> None:
    """REVOKE FEDERATED SUBSCRIBE: as PostgreSQL's, it takes back what was granted to whom it names, and
    nothing else: of a node what ALL NODES was granted stays, and a node's own grant when ALL NODES loses its.
    """
    session.require("federated_operator", "revoke the right to subscribe to a federated model")
    model = find_model(session, command.model)
    _require_node(session, model, command.node)
    whom = "ALL NODES" if command.node is None else f'node "{command.node}"'
    if not subscriptions.revoke_subscribe(session.connection, model, command.node):
        session.warning(f'federated model "{model.name}" was not granted to {whom}')
    _say_what_stays(session, model, command.node)
    for node, version in subscriptions.list_keepers(session.connection, model, command.node):
        session.notice(
            f'node "{node}" keeps version {version} of federated model "{model.name}", which it has;'
            " later versions are not offered to it"
        )
    catalog.notify_coordinator(session.connection)


def _say_what_stays(session: Session, model: catalog.Model, node: str | None) -> None:
    left = subscriptions.list_grants(session.connection, model)
    others = ", ".join(f'"{name}"' for name in left if name is not None)
    if node is not None and None in left:
        session.warning(
            f'node "{node}" may subscribe to federated model "{model.name}" as all nodes may:'
            f" REVOKE FEDERATED SUBSCRIBE ON MODEL {quote_name(model.name)} FROM ALL NODES ends that"
        )
    elif node is None and others:
        session.notice(f'federated model "{model.name}" is granted by name to {others}')


def _require_node(session: Session, model: catalog.Model, node: str | None) -> None:
    if node is None:
        return
    if all(one.name != node for one in catalog.list_nodes(session.connection, model.workspace)):
        workspace = quote_name(model.workspace.name)
        raise undefined(
            "node", node, hint=f"REGISTER FEDERATED NODE {quote_string(node)} IN WORKSPACE {workspace} ..."
        )

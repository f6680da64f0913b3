"""GRANT and REVOKE FEDERATED CONSENT, at a workspace's coordinator or at a participant's own database.

What always holds: at the coordinator a statement orders every node of the workspace to record it; at a
participant it is for that participant's node alone. The data subject is sealed before anything of the
statement is written down: to the key of the daemon that is to hear of it.
"""

from __future__ import annotations

from federated_sql.clause_values import SealedSubject, Subject
from federated_sql.errors import ErrorCode, FederatedError, invalid_value
from federated_sql.statements import GrantConsent, RevokeConsent
from heliosdb.catalog import commands as catalog
from heliosdb.catalog import consents
from heliosdb.catalog.consents import ABOUT, Said
from heliosdb.domain.orders import OrderKind
from heliosdb.domain.sealed_box import seal_box
from heliosdb.extension.orders import place_orders
from heliosdb.extension.session import Session, undefined


def grant_consent(session: Session, command: GrantConsent) -> None:
    """GRANT FEDERATED CONSENT: the subject's rows may be read for the purpose, from the next answers on."""
    session.require("federated_admin", "grant consent to federated training")
    _say(session, command.subject, Said(command.workspace, "grant", command.purpose, command.version))


def revoke_consent(session: Session, command: RevokeConsent) -> None:
    """REVOKE FEDERATED CONSENT: the subject's rows are in no later answer; of PURPOSE 'sale': an opt-out."""
    session.require("federated_admin", "revoke consent to federated training")
    _say(session, command.subject, Said(command.workspace, "revoke", command.purpose))


def _say(session: Session, subject: Subject, said: Said) -> None:
    workspace = catalog.find_workspace(session.connection, said.workspace)
    if workspace is not None:
        session.own_workspace(workspace)
        terms = {
            "purpose": said.purpose,
            "version": said.version,
            "said_at": consents.now(session.connection),
        }
        place_orders(
            session,
            OrderKind(said.kind),
            workspace.name,
            (subject,),
            {name: value for name, value in terms.items() if value is not None},
        )
    elif catalog.is_workspace_known(session.connection, said.workspace):
        _tell_own_node(session, subject, said)
    else:
        raise undefined(
            "workspace",
            said.workspace,
            hint="Consent is given at its coordinator, or at a participant that shares a dataset with it.",
        )


def _tell_own_node(session: Session, subject: Subject, said: Said) -> None:
    if isinstance(subject, SealedSubject):
        raise invalid_value(
            "the data subject is sealed to a coordinator, which this database's own node cannot open",
            hint="Name it in plain; a proxy in front of a participant's database has no subject_key.",
        )
    foreign = consents.find_foreign_dataset(session.connection, said.workspace)
    if foreign is not None:
        raise FederatedError(
            ErrorCode.PRIVILEGE,
            f'must be owner of federated dataset "{foreign}"',
            detail=f'Consent is about every dataset that is shared with workspace "{said.workspace}".',
        )
    key = consents.find_node_key(session.connection)
    if key is None:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            "this database's node has not published its key yet",
            detail="A data subject is written down here only sealed to it.",
            hint="Start the node's daemon once: heliosdb node node.toml.",
        )
    sealed = seal_box(key, subject.encode(), about=ABOUT + said.workspace.encode())
    consents.insert_request(session.connection, said, sealed)

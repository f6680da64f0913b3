"""Statements about datasets, typed on a node's own database by its own DBA."""

from __future__ import annotations

from collections.abc import Sequence

from federated_sql.errors import ErrorCode, FederatedError
from federated_sql.options import OptionKind, check_dataset, read_options, require_built
from federated_sql.statements import CreateDataset, DropDataset
from heliosdb.catalog import commands as catalog
from heliosdb.catalog import consents
from heliosdb.catalog.dataset_erasure import let_erase
from heliosdb.domain.ids import DatasetName, WorkspaceName
from heliosdb.extension.identifiers import look_for_identifiers
from heliosdb.extension.probing import warn_of_probe
from heliosdb.extension.session import Session, duplicate, undefined


def create_dataset(session: Session, command: CreateDataset) -> None:
    """CREATE FEDERATED DATASET: a row, and the view that is all a node worker can read."""
    session.require("federated_admin", "create a federated dataset")
    given = read_options(OptionKind.DATASET, command.options, session.built)
    check_dataset(given)
    relation = _find_table(session, command.table)
    known = catalog.list_columns(session.connection, relation)
    columns = _choose(known, command.columns) if command.columns else tuple(known)
    subject = str(given["subject"]) if "subject" in given else None
    if subject is not None:
        _choose(known, [subject])
        columns = tuple(column for column in columns if column.name != subject)
    require_built(OptionKind.DATASET, command.options, given, session.built)
    row_key = catalog.list_primary_key(session.connection, relation)
    viewed = dict.fromkeys((*(column.name for column in columns), *([subject] if subject else []), *row_key))
    dataset = catalog.NewDataset(
        name=DatasetName(command.name),
        workspace=WorkspaceName(command.workspace),
        relation=relation,
        columns=columns,
        view_columns=tuple(viewed),
        row_key=row_key,
        predicate=command.predicate,
        options=given,
    )
    if catalog.insert_dataset(session.connection, dataset):
        catalog.create_dataset_view(session.connection, dataset, session.schemas)
        if "consent_query" in given:
            consents.replace_view(
                session.connection, dataset.name, str(given["consent_query"]), session.schemas
            )
        if given.get("erasure") == "delete":
            let_erase(session.connection, dataset.name, lets=True)
        if subject is None:
            session.notice(
                "every row counts as a data subject of its own, for privacy and for what is held out;"
                " WITH (subject = 'column') names the column that says whose a row is"
            )
        warn_of_probe(session, dataset.name)
        look_for_identifiers(session, dataset.name, given)
        return
    if not command.if_not_exists:
        raise duplicate("dataset", command.name)
    session.notice(f'federated dataset "{command.name}" already exists, skipping')


def drop_dataset(session: Session, command: DropDataset) -> None:
    """DROP FEDERATED DATASET: its ledger stays."""
    session.require("federated_admin", "drop a federated dataset")
    if catalog.delete_dataset(session.connection, command.name):
        consents.drop_view(session.connection, command.name)
        return
    if not command.if_exists:
        raise undefined("dataset", command.name)
    session.notice(f'federated dataset "{command.name}" does not exist, skipping')


def _find_table(session: Session, table: tuple[str | None, str]) -> catalog.Relation:
    relation = catalog.find_relation(session.connection, session.schemas, table)
    shown = ".".join(part for part in table if part)
    if relation is None:
        raise FederatedError(ErrorCode.UNDEFINED_TABLE, f'relation "{shown}" does not exist')
    if not relation.readable:
        raise FederatedError(
            ErrorCode.PRIVILEGE,
            f'permission denied for table "{shown}"',
            hint="Sharing a table needs the right to SELECT from it.",
        )
    return relation


def _choose(known: Sequence[catalog.Column], names: Sequence[str]) -> tuple[catalog.Column, ...]:
    by_name = {column.name: column for column in known}
    for name in names:
        if name not in by_name:
            raise FederatedError(
                ErrorCode.UNDEFINED_COLUMN,
                f'column "{name}" does not exist',
                hint=f"The table has {', '.join(by_name)}.",
            )
    return tuple(by_name[name] for name in names)

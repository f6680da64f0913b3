"""ALTER FEDERATED DATASET: what a participant's DBA says of a dataset besides its rows and columns.

What always holds: rows, columns and the subject stay as they were shared (triggers keep the subject however
it is changed); what the dataset's tables have spent, and their smallest ceiling, no option takes back.
"""

from __future__ import annotations

from federated_sql.options import OptionKind, check_dataset, drop_options, read_options, require_built
from federated_sql.statements import AlterDataset, ResetDataset
from heliosdb.catalog import commands as catalog
from heliosdb.catalog import consents
from heliosdb.catalog.dataset_erasure import let_erase
from heliosdb.domain.ids import DatasetName
from heliosdb.extension.identifiers import PHI_OPTIONS, look_for_identifiers
from heliosdb.extension.session import Session


def alter_dataset(session: Session, command: AlterDataset) -> None:
    """ALTER FEDERATED DATASET … SET: holds from the node's next answer on."""
    session.require("federated_admin", "alter a federated dataset")
    given = read_options(OptionKind.DATASET, command.options, session.built)
    dataset = _lock(session, command.name, if_exists=command.if_exists)
    if dataset is None:
        return
    merged = {**dataset.options, **given}
    check_dataset(merged)
    require_built(OptionKind.DATASET, command.options, given, session.built)
    _update(session, dataset, merged)


def reset_dataset(session: Session, command: ResetDataset) -> None:
    """ALTER FEDERATED DATASET … RESET: defaults and the site's settings hold again."""
    session.require("federated_admin", "alter a federated dataset")
    drop_options(OptionKind.DATASET, command.options, {})
    dataset = _lock(session, command.name, if_exists=command.if_exists)
    if dataset is not None:
        options = drop_options(OptionKind.DATASET, command.options, dataset.options)
        check_dataset(options)
        _update(session, dataset, options)


def _lock(session: Session, name: str, *, if_exists: bool) -> catalog.Dataset | None:
    """Return the caller's own dataset, locked; None where it may be missing and is."""
    dataset = catalog.lock_dataset(session.connection, name)
    if dataset is None:
        session.skips("dataset", name, if_exists=if_exists)
        return None
    session.own_dataset(dataset)
    return dataset


def _update(session: Session, dataset: catalog.Dataset, options: catalog.Options) -> None:
    catalog.update_dataset(session.connection, dataset, options)
    query = options.get("consent_query")
    if query is None and "consent_query" in dataset.options:
        consents.drop_view(session.connection, dataset.name)
    elif query is not None and query != dataset.options.get("consent_query"):
        consents.replace_view(session.connection, dataset.name, str(query), session.schemas)
    deletes = options.get("erasure") == "delete"
    if deletes != (dataset.options.get("erasure") == "delete"):
        let_erase(session.connection, DatasetName(dataset.name), lets=deletes)
    if any(options.get(name) != dataset.options.get(name) for name in PHI_OPTIONS):
        look_for_identifiers(session, dataset.name, options)
    own = options.get("max_epsilon")
    kept = catalog.dataset_ceiling(session.connection, dataset)
    if own != dataset.options.get("max_epsilon") and kept is not None and (own is None or kept < own):
        session.warning(
            f"the table keeps its max_epsilon of {kept:g}: a ceiling that was ever set is not raised again"
        )

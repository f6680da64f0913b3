"""Whether the node will be able to read what was just shared, said to whoever shares it.

What always holds: it is the dataset's owner who is told, in his own session; a dataset that cannot be read
now is shared all the same, since what is in the way may be mended later.
"""

from __future__ import annotations

from heliosdb.catalog import commands as catalog
from heliosdb.domain.ids import DatasetName
from heliosdb.extension.session import Session

_NAMES = frozenset({"42P01", "42883", "42704", "42703", "3F000"})
_RIGHTS = "42501"
_READ_ONLY = "25006"


def warn_of_probe(session: Session, name: DatasetName) -> None:
    """Read one row as the node's reader will; a WARNING says what is in the way."""
    probe = catalog.probe_dataset(session.connection, name, session.schemas)
    if probe.code is not None:
        where = "".join(f"; {line}" for line in probe.place if line)
        session.warning(
            f'dataset "{name}" cannot be read by a node as it is',
            detail=f"SQLSTATE {probe.code}: {probe.message}{where}.",
            hint=_hint(probe.code),
        )
    elif not probe.was_tried:
        session.notice(
            f'whether a node can read dataset "{name}" was not tried: federated_reader may read relations'
            " that you may not, and what stands behind a view could tell you of them"
        )
    elif probe.is_hidden:
        session.warning(
            f'in dataset "{name}" a node sees none of the rows that you see',
            detail="A policy, view or predicate asks for the session's role or settings; a node has its own.",
            hint="Say in the policy what federated_reader may see, or share a view that asks for no session.",
        )


def _hint(code: str) -> str:
    """What mends it."""
    if code in _NAMES:
        return (
            "A node reads with search_path = pg_catalog: qualify the names inside functions, "
            "or ALTER FUNCTION ... SET search_path = ..."
        )
    if code == _RIGHTS:
        return (
            "Functions run with the rights of whoever reads the view: GRANT what they need (USAGE, EXECUTE, "
            "SELECT) TO federated_reader, or make them SECURITY DEFINER. Tables are read with your rights."
        )
    if code == _READ_ONLY:
        return "A node reads in a read-only transaction: share what writes nothing."
    return "Training is refused with this SQLSTATE until it is mended."

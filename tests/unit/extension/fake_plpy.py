"""A server that runs nothing: it knows the catalog's named statements, notes them and answers with rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from heliosdb.catalog.connection import Statement, load_statements

FILES = ("commands.sql", "versions.sql", "subscriptions.sql", "alerts.sql", "explaining.sql", "ledger.sql")
"""Where its statements stand."""

READING = frozenset(
    [
        "may_act_as",
        "role_names",
        "database_encoding",
        "find_workspace",
        "lock_workspace",
        "list_workspace_names",
        "session_workspace",
        "is_workspace_known",
        "list_workspace_models",
        "workspace_has_plain_runs",
        "list_nodes",
        "has_aggregation_function",
        "list_models_with_aggregation",
        "find_language",
        "is_participant",
        "node_in_training",
        "find_relation",
        "find_qualified_relation",
        "list_columns",
        "list_primary_key",
        "lock_model",
        "lock_dataset",
        "dataset_ceiling",
        "hold_workspace",
        "current_version",
        "version_number",
        "tagged_version",
        "has_numbers",
        "active_run",
        "consumed_epsilon",
        "count_known_rows",
        "list_participants",
        "list_reached",
        "list_spent",
        "is_served",
        "list_private_nodes",
        "lock_subscription",
        "is_subscribed",
        "list_grants",
        "list_keepers",
        "list_node_subscriptions",
        "find_notifier",
        "list_alerts_named",
    ]
)
"""The statements that change nothing; hold and lock only keep others away."""

Rows = Sequence[Mapping[str, Any]]
Answer = Rows | Exception | Callable[..., Rows]


class SpiError(Exception):
    """What plpy raises for an error of the server; see PL/Python's spiexceptions."""

    def __init__(
        self, sqlstate: str, message: str, detail: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.spidata = (0, detail, hint, None, 0, None, None, None, None, None)


@dataclass
class FakePlpy:
    """Stands in for the module plpy. answers: rows, or an error, by the statement's name; else no rows.

    called: the statements in order, with their values. said: notices and warnings; logged: what the log got.
    """

    answers: dict[str, Answer]
    called: list[tuple[str, tuple[object, ...]]] = field(default_factory=list)
    said: list[tuple[str, str]] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    SPIError = SpiError

    def prepare(self, query: str, types: Sequence[str]) -> Statement:
        """Find the named statement, which must be declared with these types."""
        files = (load_statements(name).values() for name in FILES)
        (found,) = (one for one in chain.from_iterable(files) if one.text == query)
        assert list(found.types) == list(types)
        return found

    def execute(self, plan: Statement, values: Sequence[object]) -> Rows:
        """Note the statement and answer it."""
        assert len(values) == len(plan.types), plan.name
        self.called.append((plan.name, tuple(values)))
        answer = self.answers.get(plan.name, ())
        if isinstance(answer, Exception):
            raise answer
        return answer(*values) if callable(answer) else answer

    def subtransaction(self) -> AbstractContextManager[object]:
        """Nothing to undo."""
        return nullcontext()

    def notice(self, text: str) -> None:
        self.said.append(("notice", text))

    def warning(self, text: str, **further: str | None) -> None:
        self.said.append(("warning", text))

    def log(self, text: str) -> None:
        self.logged.append(text)

    @property
    def names(self) -> list[str]:
        """The names of the statements that were run."""
        return [name for name, _ in self.called]

    @property
    def written(self) -> list[tuple[str, tuple[object, ...]]]:
        """The statements that change something."""
        return [(name, values) for name, values in self.called if name not in READING]

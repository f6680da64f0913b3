"""The SDK's calls, over a connection that blocks; `aio` has the same ones for asyncio.

What always holds: a handle (a workspace, a model) is a name and nothing else: each call asks the database
anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from heliosdb.sdk import calls
from heliosdb.sdk.progress import watcher
from heliosdb.sdk.records import (
    Budget,
    Coefficient,
    History,
    ModelInfo,
    Node,
    Records,
    Run,
    Version,
    WorkspaceStatus,
)
from heliosdb.sdk.session import Session


class FederatedLearning:
    """Federated learning in a coordinator's database.

    dsn: a connection string or URL, as psql takes it; what it does not say is libpq's to find (PGHOST,
    PGSERVICE, ~/.pgpass …). workspace: which one calls are about that name none. progress: whether
    trainings show a bar; by default where a terminal or a notebook can show it. Connects at the first call;
    every call raises FederatedLearningError where the database does not do it, and may do what the
    connection's role may.

    >>> fl = FederatedLearning(dsn, workspace="consortium")
    >>> fl.workspace().status().status
    'ready'
    """

    def __init__(
        self, dsn: str | None = None, *, workspace: str | None = None, progress: bool | None = None
    ) -> None:
        self._session = Session(dsn)
        self._workspace = workspace
        self._progress = progress

    def __enter__(self) -> FederatedLearning:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a later call opens another."""
        self._session.close()

    def execute(self, statement: str) -> None:
        """Execute a statement of the language as it is; a table that it names is named with its schema."""
        self._session.run(calls.perform(statement))

    def create_workspace(self, name: str, *, if_not_exists: bool = False, **options: object) -> Workspace:
        """CREATE FEDERATED WORKSPACE with its options by name; needs federated_admin."""
        self._session.run(calls.create_workspace(name, options, if_not_exists))
        return self.workspace(name)

    def workspace(self, name: str | None = None) -> Workspace:
        """The workspace of a name, or this object's own; 22023 where neither says which."""
        return Workspace(self._session, calls.named(name, self._workspace), self._progress)

    def workspaces(self) -> Records[WorkspaceStatus]:
        """Every workspace and how it stands."""
        return self._session.run(calls.workspaces(None))

    def register_node(
        self,
        name: str,
        endpoint: str | None,
        certificate: str | Path,
        *,
        workspace: str | None = None,
        **options: object,
    ) -> Node:
        """REGISTER FEDERATED NODE in a workspace; needs federated_admin.

        endpoint: `https://host:port`; None where the nodes of the workspace dial. certificate: the node's, as
        PEM text or as a path on the database server; a pathlib.Path is a file here, which is read. The
        coordinator then shakes hands with it: nodes() says how that went.
        """
        return self.workspace(workspace).register_node(name, endpoint, certificate, **options)

    def create_model(
        self,
        name: str,
        algorithm: str,
        features: Sequence[str],
        target: str,
        *,
        workspace: str | None = None,
        if_not_exists: bool = False,
        **options: object,
    ) -> Model:
        """CREATE FEDERATED MODEL; needs federated_operator.

        features: columns of the nodes' datasets. Options by name as the language has them; a mapping for
        `feature_ranges` and `search`. Without any workspace the only one there is is taken.
        """
        given = {"algorithm": algorithm, "features": features, "target": target, **options}
        self._session.run(calls.create_model(name, workspace or self._workspace, given, if_not_exists))
        return self.model(name)

    def model(self, name: str) -> Model:
        """The model of a name; whether there is one is seen when something is asked of it."""
        return Model(self._session, name, self._progress)

    def models(self, *, workspace: str | None = None) -> Records[ModelInfo]:
        """Every model, or those of the workspace."""
        return self._session.run(calls.models(workspace or self._workspace))

    def nodes(self, *, workspace: str | None = None) -> Records[Node]:
        """Every node and how it takes part, or those of the workspace."""
        return self._session.run(calls.nodes(workspace or self._workspace))

    def runs(self, *, workspace: str | None = None) -> Records[Run]:
        """Every run in the order of START, or those of the workspace."""
        return self._session.run(calls.runs(workspace or self._workspace, None))

    def budget(self, *, workspace: str | None = None) -> Budget:
        """What the workspace may spend and has spent."""
        return self.workspace(workspace).budget()


class Workspace:
    """One workspace."""

    def __init__(self, session: Session, name: str, progress: bool | None) -> None:
        self._session = session
        self._progress = progress
        self.name = name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def register_node(
        self, name: str, endpoint: str | None, certificate: str | Path, **options: object
    ) -> Node:
        """REGISTER FEDERATED NODE in this workspace, as FederatedLearning.register_node does."""
        return self._session.run(calls.register_node(self.name, name, endpoint, certificate, options))

    def unregister_node(self, name: str) -> None:
        """UNREGISTER FEDERATED NODE."""
        self._session.run(calls.unregister_node(self.name, name))

    def create_model(
        self,
        name: str,
        algorithm: str,
        features: Sequence[str],
        target: str,
        *,
        if_not_exists: bool = False,
        **options: object,
    ) -> Model:
        """CREATE FEDERATED MODEL in this workspace, as FederatedLearning.create_model does."""
        given = {"algorithm": algorithm, "features": features, "target": target, **options}
        self._session.run(calls.create_model(name, self.name, given, if_not_exists))
        return Model(self._session, name, self._progress)

    def status(self) -> WorkspaceStatus:
        """How it stands."""
        return self._session.run(calls.workspace_status(self.name))

    def budget(self) -> Budget:
        """What it may spend and has spent."""
        return self._session.run(calls.budget(self.name))

    def models(self) -> Records[ModelInfo]:
        """Its models."""
        return self._session.run(calls.models(self.name))

    def nodes(self) -> Records[Node]:
        """Its nodes and how they take part."""
        return self._session.run(calls.nodes(self.name))

    def runs(self) -> Records[Run]:
        """The runs of its models in the order of START."""
        return self._session.run(calls.runs(self.name, None))

    def set(self, **options: object) -> None:
        """ALTER FEDERATED WORKSPACE … SET."""
        self._session.run(calls.alter_workspace(self.name, options))

    def drop(self, *, cascade: bool = False) -> None:
        """DROP FEDERATED WORKSPACE; with `cascade` its models go too."""
        self._session.run(calls.drop_workspace(self.name, cascade))


class Model:
    """One model."""

    def __init__(self, session: Session, name: str, progress: bool | None) -> None:
        self._session = session
        self._progress = progress
        self.name = name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def info(self) -> ModelInfo:
        """Its workspace, owner and options."""
        return self._session.run(calls.model_info(self.name))

    def train(
        self,
        rounds: int | None = None,
        local_epochs: int | None = None,
        batch_size: int | None = None,
        *,
        wait: bool = True,
        timeout: float | None = None,
        progress: bool | None = None,
        **options: object,
    ) -> Run:
        """START FEDERATED TRAINING, and wait until it has ended; needs federated_operator.

        What is not given is the model's own option. Returns the run, whose `status` is converged,
        completed, stopped or budget_exhausted; TrainingError where it failed or diverged. timeout: seconds,
        then 57014. Ctrl-C and a timeout leave the run going. With `wait=False` it is queued, and returned
        at once.
        """
        given = calls.training_options(rounds, local_epochs, batch_size, options)
        shown = watcher(self._progress if progress is None else progress) if wait else watcher(False)
        return self._session.run(calls.train(self.name, given, shown, wait=wait, timeout=timeout))

    def predict(self, rows: Any, *, version: str | int | None = None) -> Any:
        """Predict with the current version, or with the one of a tag or number.

        rows: a dict of features gives a number: the probability of the second class, the value of a
        regression; of more than two classes a dict of their probabilities; None where nothing can be said.
        A list of dicts gives a list of these; a DataFrame (pandas, polars) or a table of pyarrow gives one
        of the same kind, with a column `prediction` or one for each class. A feature that is None, or not
        there, is missing, and counts as at training.

        >>> 0 < model.predict({"age": 55.0, "pressure": 140.0}) < 1
        True
        """
        return self._session.run(calls.predict(calls.reference(self.name, version), rows))

    def history(self, run: int | None = None) -> History:
        """The rounds of a run by its number in runs(), or of the latest."""
        return self._session.run(calls.history(self.name, run))

    def status(self) -> Run | None:
        """The latest run and how it stands; None where there was none."""
        return self._session.run(calls.latest_run(self.name))

    def runs(self) -> Records[Run]:
        """Its runs in the order of START."""
        return self._session.run(calls.runs(None, self.name))

    def wait(self, timeout: float | None = None, *, progress: bool | None = None) -> str:
        """Wait until the latest run has ended, and say how; 57014 after `timeout` seconds."""
        shown = watcher(self._progress if progress is None else progress)
        return self._session.run(calls.wait(self.name, shown, timeout=timeout))

    def stop(self) -> None:
        """STOP FEDERATED TRAINING."""
        self._session.run(calls.stop_training(self.name))

    def coefficients(self, *, version: str | int | None = None) -> Records[Coefficient]:
        """The coefficients of a linear model; standard errors where trained by `optimizer="newton"`."""
        return self._session.run(calls.coefficients(calls.reference(self.name, version)))

    def evaluate(self, *, version: str | int | None = None) -> dict[str, float | None]:
        """How it did over the held-out rows of all nodes when it was made, by metric."""
        return self._session.run(calls.evaluation(calls.reference(self.name, version)))

    def versions(self) -> Records[Version]:
        """Its versions."""
        return self._session.run(calls.versions(self.name))

    def tag(self, tag: str, version: int | None = None, *, replace: bool = False) -> None:
        """TAG FEDERATED MODEL: the current version or one by number; `replace` moves the tag of another."""
        self._session.run(calls.tag_model(self.name, tag, version, replace))

    def promote(self, version: str | int) -> None:
        """PROMOTE FEDERATED MODEL: make the version of a tag or number the current one."""
        self._session.run(calls.promote_model(self.name, version))

    def budget(self) -> Budget:
        """What its workspace may spend and has spent."""
        return self._session.run(calls.budget_of_model(self.name))

    def set(self, **options: object) -> None:
        """ALTER FEDERATED MODEL … SET."""
        self._session.run(calls.alter_model(self.name, options))

    def drop(self, *, cascade: bool = False) -> None:
        """DROP FEDERATED MODEL; with `cascade` what depends on its functions goes too."""
        self._session.run(calls.drop_model(self.name, cascade))

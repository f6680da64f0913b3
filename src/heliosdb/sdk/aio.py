"""The SDK's calls for asyncio: those of `client`, where docs are, each awaited.

What always holds: the same operations are driven (`calls`); a test holds the signatures to those of `client`.
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
from heliosdb.sdk.session import AsyncSession


class AsyncFederatedLearning:
    """Federated learning in a coordinator's database.

    As FederatedLearning, but for `await`. Calls at the same time share its one connection, one request
    after the other, so that trainings can be awaited together; a task that is cancelled leaves its run
    going.
    """

    def __init__(
        self, dsn: str | None = None, *, workspace: str | None = None, progress: bool | None = None
    ) -> None:
        self._session = AsyncSession(dsn)
        self._workspace = workspace
        self._progress = progress

    async def __aenter__(self) -> AsyncFederatedLearning:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; a later call opens another."""
        await self._session.close()

    async def execute(self, statement: str) -> None:
        """Execute a statement of the language as it is; a table that it names is named with its schema."""
        await self._session.run(calls.perform(statement))

    async def create_workspace(
        self, name: str, *, if_not_exists: bool = False, **options: object
    ) -> AsyncWorkspace:
        """CREATE FEDERATED WORKSPACE with its options by name; needs federated_admin."""
        await self._session.run(calls.create_workspace(name, options, if_not_exists))
        return self.workspace(name)

    def workspace(self, name: str | None = None) -> AsyncWorkspace:
        """The workspace of a name, or this object's own; 22023 where neither says which."""
        return AsyncWorkspace(self._session, calls.named(name, self._workspace), self._progress)

    async def workspaces(self) -> Records[WorkspaceStatus]:
        """Every workspace and how it stands."""
        return await self._session.run(calls.workspaces(None))

    async def register_node(
        self,
        name: str,
        endpoint: str | None,
        certificate: str | Path,
        *,
        workspace: str | None = None,
        **options: object,
    ) -> Node:
        """REGISTER FEDERATED NODE in a workspace; needs federated_admin."""
        return await self.workspace(workspace).register_node(name, endpoint, certificate, **options)

    async def create_model(
        self,
        name: str,
        algorithm: str,
        features: Sequence[str],
        target: str,
        *,
        workspace: str | None = None,
        if_not_exists: bool = False,
        **options: object,
    ) -> AsyncModel:
        """CREATE FEDERATED MODEL; needs federated_operator."""
        given = {"algorithm": algorithm, "features": features, "target": target, **options}
        await self._session.run(calls.create_model(name, workspace or self._workspace, given, if_not_exists))
        return self.model(name)

    def model(self, name: str) -> AsyncModel:
        """The model of a name; whether there is one is seen when something is asked of it."""
        return AsyncModel(self._session, name, self._progress)

    async def models(self, *, workspace: str | None = None) -> Records[ModelInfo]:
        """Every model, or those of the workspace."""
        return await self._session.run(calls.models(workspace or self._workspace))

    async def nodes(self, *, workspace: str | None = None) -> Records[Node]:
        """Every node and how it takes part, or those of the workspace."""
        return await self._session.run(calls.nodes(workspace or self._workspace))

    async def runs(self, *, workspace: str | None = None) -> Records[Run]:
        """Every run in the order of START, or those of the workspace."""
        return await self._session.run(calls.runs(workspace or self._workspace, None))

    async def budget(self, *, workspace: str | None = None) -> Budget:
        """What the workspace may spend and has spent."""
        return await self.workspace(workspace).budget()


class AsyncWorkspace:
    """One workspace."""

    def __init__(self, session: AsyncSession, name: str, progress: bool | None) -> None:
        self._session = session
        self._progress = progress
        self.name = name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    async def register_node(
        self, name: str, endpoint: str | None, certificate: str | Path, **options: object
    ) -> Node:
        """REGISTER FEDERATED NODE in this workspace, as FederatedLearning.register_node does."""
        return await self._session.run(calls.register_node(self.name, name, endpoint, certificate, options))

    async def unregister_node(self, name: str) -> None:
        """UNREGISTER FEDERATED NODE."""
        await self._session.run(calls.unregister_node(self.name, name))

    async def create_model(
        self,
        name: str,
        algorithm: str,
        features: Sequence[str],
        target: str,
        *,
        if_not_exists: bool = False,
        **options: object,
    ) -> AsyncModel:
        """CREATE FEDERATED MODEL in this workspace, as FederatedLearning.create_model does."""
        given = {"algorithm": algorithm, "features": features, "target": target, **options}
        await self._session.run(calls.create_model(name, self.name, given, if_not_exists))
        return AsyncModel(self._session, name, self._progress)

    async def status(self) -> WorkspaceStatus:
        """How it stands."""
        return await self._session.run(calls.workspace_status(self.name))

    async def budget(self) -> Budget:
        """What it may spend and has spent."""
        return await self._session.run(calls.budget(self.name))

    async def models(self) -> Records[ModelInfo]:
        """Its models."""
        return await self._session.run(calls.models(self.name))

    async def nodes(self) -> Records[Node]:
        """Its nodes and how they take part."""
        return await self._session.run(calls.nodes(self.name))

    async def runs(self) -> Records[Run]:
        """The runs of its models in the order of START."""
        return await self._session.run(calls.runs(self.name, None))

    async def set(self, **options: object) -> None:
        """ALTER FEDERATED WORKSPACE … SET."""
        await self._session.run(calls.alter_workspace(self.name, options))

    async def drop(self, *, cascade: bool = False) -> None:
        """DROP FEDERATED WORKSPACE; with `cascade` its models go too."""
        await self._session.run(calls.drop_workspace(self.name, cascade))


class AsyncModel:
    """One model."""

    def __init__(self, session: AsyncSession, name: str, progress: bool | None) -> None:
        self._session = session
        self._progress = progress
        self.name = name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    async def info(self) -> ModelInfo:
        """Its workspace, owner and options."""
        return await self._session.run(calls.model_info(self.name))

    async def train(
        self,
        rounds: int | None = None,
        local_epochs: int | None = None,
        batch_size: int | None = None,
        *,
        wait: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - the twin has it too
        progress: bool | None = None,
        **options: object,
    ) -> Run:
        """START FEDERATED TRAINING, and wait until it has ended; needs federated_operator."""
        given = calls.training_options(rounds, local_epochs, batch_size, options)
        shown = watcher(self._progress if progress is None else progress) if wait else watcher(False)
        return await self._session.run(calls.train(self.name, given, shown, wait=wait, timeout=timeout))

    async def predict(self, rows: Any, *, version: str | int | None = None) -> Any:
        """Predict with the current version, or with the one of a tag or number."""
        return await self._session.run(calls.predict(calls.reference(self.name, version), rows))

    async def history(self, run: int | None = None) -> History:
        """The rounds of a run by its number in runs(), or of the latest."""
        return await self._session.run(calls.history(self.name, run))

    async def status(self) -> Run | None:
        """The latest run and how it stands; None where there was none."""
        return await self._session.run(calls.latest_run(self.name))

    async def runs(self) -> Records[Run]:
        """Its runs in the order of START."""
        return await self._session.run(calls.runs(None, self.name))

    async def wait(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - the twin has it too
        *,
        progress: bool | None = None,
    ) -> str:
        """Wait until the latest run has ended, and say how; 57014 after `timeout` seconds."""
        shown = watcher(self._progress if progress is None else progress)
        return await self._session.run(calls.wait(self.name, shown, timeout=timeout))

    async def stop(self) -> None:
        """STOP FEDERATED TRAINING."""
        await self._session.run(calls.stop_training(self.name))

    async def coefficients(self, *, version: str | int | None = None) -> Records[Coefficient]:
        """The coefficients of a linear model; standard errors where trained by `optimizer="newton"`."""
        return await self._session.run(calls.coefficients(calls.reference(self.name, version)))

    async def evaluate(self, *, version: str | int | None = None) -> dict[str, float | None]:
        """How it did over the held-out rows of all nodes when it was made, by metric."""
        return await self._session.run(calls.evaluation(calls.reference(self.name, version)))

    async def versions(self) -> Records[Version]:
        """Its versions."""
        return await self._session.run(calls.versions(self.name))

    async def tag(self, tag: str, version: int | None = None, *, replace: bool = False) -> None:
        """TAG FEDERATED MODEL: the current version or one by number; `replace` moves the tag of another."""
        await self._session.run(calls.tag_model(self.name, tag, version, replace))

    async def promote(self, version: str | int) -> None:
        """PROMOTE FEDERATED MODEL: make the version of a tag or number the current one."""
        await self._session.run(calls.promote_model(self.name, version))

    async def budget(self) -> Budget:
        """What its workspace may spend and has spent."""
        return await self._session.run(calls.budget_of_model(self.name))

    async def set(self, **options: object) -> None:
        """ALTER FEDERATED MODEL … SET."""
        await self._session.run(calls.alter_model(self.name, options))

    async def drop(self, *, cascade: bool = False) -> None:
        """DROP FEDERATED MODEL; with `cascade` what depends on its functions goes too."""
        await self._session.run(calls.drop_model(self.name, cascade))

"""One frozen dataclass per statement of the language: what `parse` returns and `render` takes.

What always holds: a command carries what the user typed, normalised lexically (names folded, strings
decoded) and nothing more; whether options are known and in range is `options`' business.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Scalar = str | int | float | bool | None
OptionValue = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Option:
    """One `name = value`; `position` is the 1-based character offset of the name in the statement."""

    name: str
    value: OptionValue
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class CreateWorkspace:
    """CREATE FEDERATED WORKSPACE."""

    name: str
    options: tuple[Option, ...] = ()
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class AlterWorkspace:
    """ALTER FEDERATED WORKSPACE … SET."""

    name: str
    options: tuple[Option, ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropWorkspace:
    """DROP FEDERATED WORKSPACE."""

    name: str
    if_exists: bool = False
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class RegisterNode:
    """REGISTER FEDERATED NODE."""

    name: str
    workspace: str
    options: tuple[Option, ...] = ()
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class AlterNode:
    """ALTER FEDERATED NODE … SET."""

    name: str
    workspace: str
    options: tuple[Option, ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class UnregisterNode:
    """UNREGISTER FEDERATED NODE."""

    name: str
    workspace: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class CreateDataset:
    """CREATE FEDERATED DATASET, typed on a node's own database.

    `table` is (schema or None, name); `columns` is empty for all columns; `predicate` is the user's SQL text.
    """

    name: str
    table: tuple[str | None, str]
    workspace: str
    columns: tuple[str, ...] = ()
    predicate: str | None = None
    options: tuple[Option, ...] = ()
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropDataset:
    """DROP FEDERATED DATASET."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class CreateModel:
    """CREATE FEDERATED MODEL."""

    name: str
    workspace: str | None = None
    options: tuple[Option, ...] = ()
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class AlterModel:
    """ALTER FEDERATED MODEL … SET."""

    name: str
    options: tuple[Option, ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropModel:
    """DROP FEDERATED MODEL."""

    name: str
    if_exists: bool = False
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class StartTraining:
    """START FEDERATED TRAINING."""

    model: str
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class StopTraining:
    """STOP FEDERATED TRAINING."""

    model: str


@dataclass(frozen=True, slots=True)
class RenameWorkspace:
    """ALTER FEDERATED WORKSPACE … RENAME TO."""

    name: str
    new_name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class ChangeWorkspaceOwner:
    """ALTER FEDERATED WORKSPACE … OWNER TO."""

    name: str
    owner: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class RenameModel:
    """ALTER FEDERATED MODEL … RENAME TO."""

    name: str
    new_name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class ChangeModelOwner:
    """ALTER FEDERATED MODEL … OWNER TO."""

    name: str
    owner: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class CheckpointTraining:
    """CHECKPOINT FEDERATED TRAINING."""

    model: str
    path: str


@dataclass(frozen=True, slots=True)
class ResumeTraining:
    """RESUME FEDERATED TRAINING; `path` is None for the latest checkpoint."""

    model: str
    path: str | None


@dataclass(frozen=True, slots=True)
class TagModel:
    """TAG FEDERATED MODEL; `version` is None for the current one."""

    model: str
    tag: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class RollbackModel:
    """ROLLBACK FEDERATED MODEL; `version` is a tag or a number."""

    model: str
    version: str


@dataclass(frozen=True, slots=True)
class CreateAggregationFunction:
    """CREATE FEDERATED AGGREGATION FUNCTION."""

    name: str
    body: str
    language: str
    or_replace: bool = False


@dataclass(frozen=True, slots=True)
class DropAggregationFunction:
    """DROP FEDERATED AGGREGATION FUNCTION."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class EraseSubjects:
    """DELETE FROM FEDERATED TRAINING."""

    model: str
    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExportSubject:
    """EXPORT FEDERATED DATA."""

    subject: str
    workspace: str
    path: str
    format: str = "json"


@dataclass(frozen=True, slots=True)
class GrantConsent:
    """GRANT FEDERATED CONSENT."""

    subject: str
    workspace: str
    purpose: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class RevokeConsent:
    """REVOKE FEDERATED CONSENT."""

    subject: str
    workspace: str
    purpose: str | None = None


@dataclass(frozen=True, slots=True)
class AlertCondition:
    """One comparison of an alert: metric, operator, bound."""

    metric: str
    operator: str
    value: float


@dataclass(frozen=True, slots=True)
class CreateAlert:
    """CREATE FEDERATED ALERT."""

    name: str
    workspace: str
    conditions: tuple[AlertCondition, ...]
    target: str
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropAlert:
    """DROP FEDERATED ALERT."""

    name: str
    workspace: str | None = None
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class Unbuilt:
    """A statement of the language whose engine is not there yet.

    It is recognised by its leading keywords (`tag`, for instance `TAG FEDERATED MODEL`) and answered 0A000;
    `text` is the statement as typed.
    """

    tag: str
    text: str


Command = (
    CreateWorkspace
    | AlterWorkspace
    | DropWorkspace
    | RegisterNode
    | AlterNode
    | UnregisterNode
    | CreateDataset
    | DropDataset
    | CreateModel
    | AlterModel
    | DropModel
    | StartTraining
    | StopTraining
    | RenameWorkspace
    | ChangeWorkspaceOwner
    | RenameModel
    | ChangeModelOwner
    | CheckpointTraining
    | ResumeTraining
    | TagModel
    | RollbackModel
    | CreateAggregationFunction
    | DropAggregationFunction
    | EraseSubjects
    | ExportSubject
    | GrantConsent
    | RevokeConsent
    | CreateAlert
    | DropAlert
    | Unbuilt
)

COMMAND_TAGS: dict[type[Command], str] = {
    CreateWorkspace: "CREATE FEDERATED WORKSPACE",
    AlterWorkspace: "ALTER FEDERATED WORKSPACE",
    DropWorkspace: "DROP FEDERATED WORKSPACE",
    RegisterNode: "REGISTER FEDERATED NODE",
    AlterNode: "ALTER FEDERATED NODE",
    UnregisterNode: "UNREGISTER FEDERATED NODE",
    CreateDataset: "CREATE FEDERATED DATASET",
    DropDataset: "DROP FEDERATED DATASET",
    CreateModel: "CREATE FEDERATED MODEL",
    AlterModel: "ALTER FEDERATED MODEL",
    DropModel: "DROP FEDERATED MODEL",
    StartTraining: "START FEDERATED TRAINING",
    StopTraining: "STOP FEDERATED TRAINING",
    RenameWorkspace: "ALTER FEDERATED WORKSPACE",
    ChangeWorkspaceOwner: "ALTER FEDERATED WORKSPACE",
    RenameModel: "ALTER FEDERATED MODEL",
    ChangeModelOwner: "ALTER FEDERATED MODEL",
    CheckpointTraining: "CHECKPOINT FEDERATED TRAINING",
    ResumeTraining: "RESUME FEDERATED TRAINING",
    TagModel: "TAG FEDERATED MODEL",
    RollbackModel: "ROLLBACK FEDERATED MODEL",
    CreateAggregationFunction: "CREATE FEDERATED AGGREGATION FUNCTION",
    DropAggregationFunction: "DROP FEDERATED AGGREGATION FUNCTION",
    EraseSubjects: "DELETE FROM FEDERATED TRAINING",
    ExportSubject: "EXPORT FEDERATED DATA",
    GrantConsent: "GRANT FEDERATED CONSENT",
    RevokeConsent: "REVOKE FEDERATED CONSENT",
    CreateAlert: "CREATE FEDERATED ALERT",
    DropAlert: "DROP FEDERATED ALERT",
}


def command_tag(command: Command) -> str:
    """Return the command tag that the proxy answers with."""
    return command.tag if isinstance(command, Unbuilt) else COMMAND_TAGS[type(command)]

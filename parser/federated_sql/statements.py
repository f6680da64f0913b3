"""One frozen dataclass per statement of the language: what `parse` returns and `render` takes.

What always holds: a command carries what the user typed, normalised lexically (names folded, strings
decoded) and nothing more; whether options are known and in range is `options`' business.
"""

from __future__ import annotations

from dataclasses import dataclass

from federated_sql.clause_values import Option, OptionName, RoleSpec, Subject
from federated_sql.compliance_statements import AttestCompliance
from federated_sql.reading_statements import ExplainTraining, ShowObjects
from federated_sql.serving_statements import (
    AlterSubscription,
    CreateExperiment,
    CreateSubscription,
    DropExperiment,
    DropSubscription,
    GrantSubscribe,
    RefreshSubscription,
    ResetSubscription,
    RevokeSubscribe,
)


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
class ResetWorkspace:
    """ALTER FEDERATED WORKSPACE … RESET."""

    name: str
    options: tuple[OptionName, ...]
    if_exists: bool = False


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
    owner: RoleSpec
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
class ResetNode:
    """ALTER FEDERATED NODE … RESET."""

    name: str
    workspace: str
    options: tuple[OptionName, ...]
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
class AlterDataset:
    """ALTER FEDERATED DATASET … SET, typed on a node's own database."""

    name: str
    options: tuple[Option, ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class ResetDataset:
    """ALTER FEDERATED DATASET … RESET, typed on a node's own database."""

    name: str
    options: tuple[OptionName, ...]
    if_exists: bool = False


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
class ResetModel:
    """ALTER FEDERATED MODEL … RESET."""

    name: str
    options: tuple[OptionName, ...]
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
    owner: RoleSpec
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
class CheckpointTraining:
    """CHECKPOINT FEDERATED TRAINING: `path` is a file of the database server."""

    model: str
    path: str


@dataclass(frozen=True, slots=True)
class ResumeTraining:
    """RESUME FEDERATED TRAINING: from a checkpoint's file, or (path None) from the last closed round."""

    model: str
    path: str | None = None


@dataclass(frozen=True, slots=True)
class TagModel:
    """TAG FEDERATED MODEL: `version` None is the current one; `replace` moves a tag of another version."""

    model: str
    tag: str
    version: int | None = None
    replace: bool = False


@dataclass(frozen=True, slots=True)
class DropTag:
    """DROP FEDERATED MODEL … TAG: the version stays."""

    model: str
    tag: str
    if_exists: bool = False
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class DropVersion:
    """DROP FEDERATED MODEL … VERSION: `version` is a tag or a version's number in digits."""

    model: str
    version: str
    if_exists: bool = False
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class PromoteModel:
    """PROMOTE FEDERATED MODEL: `version` is a tag or a version's number in digits."""

    model: str
    version: str


@dataclass(frozen=True, slots=True)
class RollbackModel:
    """ROLLBACK FEDERATED MODEL: `version` is a tag or a version's number in digits."""

    model: str
    version: str


@dataclass(frozen=True, slots=True)
class CreateAggregationFunction:
    """CREATE [OR REPLACE] FEDERATED AGGREGATION FUNCTION."""

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
    """DELETE FROM FEDERATED TRAINING: the data subjects to forget, each once."""

    model: str
    subjects: tuple[Subject, ...]
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportSubject:
    """EXPORT FEDERATED DATA: what a workspace holds about one subject, into a file of the database server."""

    subject: Subject
    workspace: str
    path: str
    format: str = "json"


@dataclass(frozen=True, slots=True)
class GrantConsent:
    """GRANT FEDERATED CONSENT: `version` is that of the text consented to."""

    subject: Subject
    workspace: str
    purpose: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class RevokeConsent:
    """REVOKE FEDERATED CONSENT: without a purpose, for all of them."""

    subject: Subject
    workspace: str
    purpose: str | None = None


@dataclass(frozen=True, slots=True)
class AlertCondition:
    """One `metric op number` of an alert; `operator` is <, <=, >, >=, = or <>."""

    metric: str
    operator: str
    value: int | float


@dataclass(frozen=True, slots=True)
class CreateAlert:
    """CREATE FEDERATED ALERT: notifies `target` when all conditions hold."""

    name: str
    workspace: str
    conditions: tuple[AlertCondition, ...]
    target: str
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropAlert:
    """DROP FEDERATED ALERT: `workspace` None where the name alone is enough."""

    name: str
    workspace: str | None = None
    if_exists: bool = False


Command = (
    CreateWorkspace
    | AlterWorkspace
    | ResetWorkspace
    | RenameWorkspace
    | ChangeWorkspaceOwner
    | DropWorkspace
    | RegisterNode
    | AlterNode
    | ResetNode
    | UnregisterNode
    | CreateDataset
    | AlterDataset
    | ResetDataset
    | DropDataset
    | CreateModel
    | AlterModel
    | ResetModel
    | RenameModel
    | ChangeModelOwner
    | DropModel
    | StartTraining
    | StopTraining
    | CheckpointTraining
    | ResumeTraining
    | TagModel
    | DropTag
    | DropVersion
    | PromoteModel
    | RollbackModel
    | CreateAggregationFunction
    | DropAggregationFunction
    | EraseSubjects
    | ExportSubject
    | GrantConsent
    | RevokeConsent
    | CreateAlert
    | DropAlert
    | CreateSubscription
    | AlterSubscription
    | ResetSubscription
    | RefreshSubscription
    | DropSubscription
    | GrantSubscribe
    | RevokeSubscribe
    | CreateExperiment
    | DropExperiment
    | AttestCompliance
    | ExplainTraining
    | ShowObjects
)

COMMAND_TAGS: dict[type[Command], str] = {
    CreateWorkspace: "CREATE FEDERATED WORKSPACE",
    AlterWorkspace: "ALTER FEDERATED WORKSPACE",
    ResetWorkspace: "ALTER FEDERATED WORKSPACE",
    RenameWorkspace: "ALTER FEDERATED WORKSPACE",
    ChangeWorkspaceOwner: "ALTER FEDERATED WORKSPACE",
    DropWorkspace: "DROP FEDERATED WORKSPACE",
    RegisterNode: "REGISTER FEDERATED NODE",
    AlterNode: "ALTER FEDERATED NODE",
    ResetNode: "ALTER FEDERATED NODE",
    UnregisterNode: "UNREGISTER FEDERATED NODE",
    CreateDataset: "CREATE FEDERATED DATASET",
    AlterDataset: "ALTER FEDERATED DATASET",
    ResetDataset: "ALTER FEDERATED DATASET",
    DropDataset: "DROP FEDERATED DATASET",
    CreateModel: "CREATE FEDERATED MODEL",
    AlterModel: "ALTER FEDERATED MODEL",
    ResetModel: "ALTER FEDERATED MODEL",
    RenameModel: "ALTER FEDERATED MODEL",
    ChangeModelOwner: "ALTER FEDERATED MODEL",
    DropModel: "DROP FEDERATED MODEL",
    StartTraining: "START FEDERATED TRAINING",
    StopTraining: "STOP FEDERATED TRAINING",
    CheckpointTraining: "CHECKPOINT FEDERATED TRAINING",
    ResumeTraining: "RESUME FEDERATED TRAINING",
    TagModel: "TAG FEDERATED MODEL",
    DropTag: "DROP FEDERATED MODEL",
    DropVersion: "DROP FEDERATED MODEL",
    PromoteModel: "PROMOTE FEDERATED MODEL",
    RollbackModel: "ROLLBACK FEDERATED MODEL",
    CreateAggregationFunction: "CREATE FEDERATED AGGREGATION FUNCTION",
    DropAggregationFunction: "DROP FEDERATED AGGREGATION FUNCTION",
    EraseSubjects: "DELETE FROM FEDERATED TRAINING",
    ExportSubject: "EXPORT FEDERATED DATA",
    GrantConsent: "GRANT FEDERATED CONSENT",
    RevokeConsent: "REVOKE FEDERATED CONSENT",
    CreateAlert: "CREATE FEDERATED ALERT",
    DropAlert: "DROP FEDERATED ALERT",
    CreateSubscription: "CREATE FEDERATED SUBSCRIPTION",
    AlterSubscription: "ALTER FEDERATED SUBSCRIPTION",
    ResetSubscription: "ALTER FEDERATED SUBSCRIPTION",
    RefreshSubscription: "ALTER FEDERATED SUBSCRIPTION",
    DropSubscription: "DROP FEDERATED SUBSCRIPTION",
    GrantSubscribe: "GRANT FEDERATED SUBSCRIBE",
    RevokeSubscribe: "REVOKE FEDERATED SUBSCRIBE",
    CreateExperiment: "CREATE FEDERATED EXPERIMENT",
    DropExperiment: "DROP FEDERATED EXPERIMENT",
    AttestCompliance: "ATTEST FEDERATED COMPLIANCE",
    ExplainTraining: "EXPLAIN",
    ShowObjects: "SHOW",
}


def command_tag(command: Command) -> str:
    """Return its command tag: the words that begin the statement, of DELETE how many subjects it names."""
    if isinstance(command, EraseSubjects):
        return f"DELETE {len(command.subjects)}"
    return COMMAND_TAGS[type(command)]

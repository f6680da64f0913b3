"""Bodies of what changes something that is there.

What always holds: a body has no field that is not here, and one that would change nothing is refused; an
option that is null gets its default again.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import AfterValidator, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from federated_sql.rules_subjects import MAX_SUBJECTS
from heliosdb.api.schemas import Body, Features, Name, OptionName, Options, OptionValue, Version
from heliosdb.domain.orders import MAX_SUBJECT_BYTES

VersionName = Annotated[
    str, Path(alias="version", min_length=1, max_length=63, description="Its number or one of its tags.")
]
TagName = Annotated[str, Path(alias="tag", min_length=1, max_length=63)]
AlertName = Annotated[str, Path(alias="alert", min_length=1, max_length=63)]
ExperimentName = Annotated[str, Path(alias="experiment", min_length=1, max_length=63)]
Cascade = Annotated[bool, Query(description="CASCADE: what depends on it goes too.")]

Changes = Annotated[
    dict[OptionName, OptionValue | None],
    Field(max_length=200, description="SET: options by their names; one that is null is RESET."),
]
Number = StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)]


def _check_subject(subject: str) -> str:
    """What the language says of a subject that is not sealed."""
    if not subject.strip() or "\0" in subject or len(subject.encode()) > MAX_SUBJECT_BYTES:
        raise ValueError(f"a data subject is named by 1 to {MAX_SUBJECT_BYTES} bytes of text")
    return subject


class NodeChange(Body):
    """Options of a node: ALTER … SET and RESET."""

    options: Annotated[Changes, Field(min_length=1)]


class Change(Body):
    """Options, name and owner of a workspace or model: ALTER … SET, RESET, RENAME TO, OWNER TO."""

    options: Changes = Field(default_factory=dict)
    name: Name | None = None
    owner: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _changes_something(cls, value: Any) -> Any:
        if isinstance(value, dict) and not any(value.get(key) for key in ("options", "name", "owner")):
            raise ValueError("nothing is to be changed: give options, name or owner")
        return value


class TagChange(Body):
    """Which version a tag names; without one the current version."""

    version: Annotated[StrictInt, Field(ge=1, le=2**31 - 1)] | None = None
    replace: StrictBool = False


class NewErasure(Body):
    """Whom to forget: DELETE FROM FEDERATED TRAINING."""

    model: Name
    subjects: Annotated[
        list[Annotated[StrictStr, Field(min_length=1), AfterValidator(_check_subject)]],
        Field(min_length=1, max_length=MAX_SUBJECTS, description="Identifiers of data subjects."),
    ]
    options: Options = Field(default_factory=dict)


class Condition(Body):
    """One condition of an alert."""

    metric: Annotated[str, Field(min_length=1, max_length=63)]
    operator: Literal["<", "<=", ">", ">=", "=", "<>"]
    value: Number


class NewAlert(Body):
    """An alert to be created: CREATE FEDERATED ALERT."""

    name: Name
    conditions: Annotated[list[Condition], Field(min_length=1, max_length=20)]
    target: Annotated[str, Field(min_length=1, max_length=2_000)]


class NewArm(Body):
    """A version and which part of the keys it serves."""

    version: Version
    share: Annotated[StrictFloat, Field(gt=0, lt=1)]


class NewExperiment(Body):
    """An experiment to be created: CREATE FEDERATED EXPERIMENT. Others are compared with the first arm."""

    name: Name
    model: Name
    arms: Annotated[list[NewArm], Field(min_length=2, max_length=20)]
    keep_days: Annotated[
        StrictInt | None, Field(ge=1, le=36_500, description="As the statement's option; without it, 90.")
    ] = None


class ExperimentCall(Body):
    """What is to be predicted by an experiment, and for which key."""

    key: Annotated[str, Field(min_length=1, max_length=1_024)]
    features: Features = Field(default_factory=dict)


class Outcome(Body):
    """What came of a key that the experiment has served."""

    key: Annotated[str, Field(min_length=1, max_length=1_024)]
    outcome: Number

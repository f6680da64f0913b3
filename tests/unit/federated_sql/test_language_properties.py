"""Properties over generated commands and over any text at all."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from federated_sql import FederatedError, Option, may_concern, parse, render, rewrite
from federated_sql.clause_values import OptionName, RoleKeyword, SealedSubject
from federated_sql.compliance_statements import AttestCompliance
from federated_sql.options import OPTIONS, OptionKind, validate
from federated_sql.serving_statements import (
    AlterSubscription,
    ArmShare,
    CreateExperiment,
    CreateSubscription,
    DropExperiment,
    DropSubscription,
    GrantSubscribe,
    RefreshSubscription,
    ResetSubscription,
    RevokeSubscribe,
)
from federated_sql.statements import (
    AlertCondition,
    AlterModel,
    AlterNode,
    AlterWorkspace,
    ChangeModelOwner,
    ChangeWorkspaceOwner,
    CheckpointTraining,
    Command,
    CreateAggregationFunction,
    CreateAlert,
    CreateDataset,
    CreateModel,
    CreateWorkspace,
    DropAggregationFunction,
    DropAlert,
    DropDataset,
    DropModel,
    DropTag,
    DropVersion,
    DropWorkspace,
    EraseSubjects,
    ExportSubject,
    GrantConsent,
    PromoteModel,
    RegisterNode,
    RenameModel,
    RenameWorkspace,
    ResumeTraining,
    RevokeConsent,
    RollbackModel,
    StartTraining,
    StopTraining,
    TagModel,
    UnregisterNode,
)
from heliosdb.parts.built import built_parts

BUILT = built_parts()
PRINTABLE = st.characters(codec="utf-8", categories=["L", "M", "N", "P", "S", "Zs"]).filter(str.isprintable)
NAMES = st.one_of(
    st.sampled_from(["w", "if", "set", "with", "select", "in", "Mixed", 'a"b', "training", "é", "1a", "a$"]),
    st.text(PRINTABLE, min_size=1, max_size=15),
)
SCALARS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)
OPTION_LISTS = st.lists(
    st.builds(Option, NAMES, st.one_of(SCALARS, st.lists(SCALARS, max_size=4).map(tuple))),
    max_size=4,
    unique_by=lambda option: option.name,
).map(tuple)
SOME_OPTIONS = OPTION_LISTS.filter(bool)
BOOL = st.booleans()
PREDICATES = st.sampled_from(
    [None, "a > 1", "x = ')' OR (y)", "a BETWEEN 1 AND 2 -- c\n AND b", "f(a, $$;$$)"]
)

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).filter(
    str.strip
)
ROLES = NAMES | st.sampled_from(RoleKeyword)
ARMS = st.builds(
    ArmShare,
    TEXTS,
    st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False),
)
CONDITIONS = st.builds(
    AlertCondition,
    NAMES,
    st.sampled_from(["<", "<=", ">", ">=", "=", "<>"]),
    st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False),
)

MEMBERSHIP: st.SearchStrategy[Command] = st.one_of(
    st.builds(CreateWorkspace, NAMES, OPTION_LISTS, BOOL),
    st.builds(AlterWorkspace, NAMES, SOME_OPTIONS, BOOL),
    st.builds(RenameWorkspace, NAMES, NAMES, BOOL),
    st.builds(ChangeWorkspaceOwner, NAMES, ROLES, BOOL),
    st.builds(DropWorkspace, NAMES, BOOL, BOOL),
    st.builds(RegisterNode, NAMES, NAMES, OPTION_LISTS, BOOL),
    st.builds(AlterNode, NAMES, NAMES, SOME_OPTIONS, BOOL),
    st.builds(UnregisterNode, NAMES, NAMES, BOOL),
    st.builds(
        CreateDataset,
        NAMES,
        st.tuples(st.none() | NAMES, NAMES),
        NAMES,
        st.lists(NAMES, unique=True, max_size=3).map(tuple),
        PREDICATES,
        OPTION_LISTS,
        BOOL,
    ),
    st.builds(DropDataset, NAMES, BOOL),
)
LEARNING: st.SearchStrategy[Command] = st.one_of(
    st.builds(CreateModel, NAMES, st.none() | NAMES, OPTION_LISTS, BOOL),
    st.builds(AlterModel, NAMES, SOME_OPTIONS, BOOL),
    st.builds(RenameModel, NAMES, NAMES, BOOL),
    st.builds(ChangeModelOwner, NAMES, ROLES, BOOL),
    st.builds(DropModel, NAMES, BOOL, BOOL),
    st.builds(StartTraining, NAMES, OPTION_LISTS),
    st.builds(StopTraining, NAMES),
    st.builds(CheckpointTraining, NAMES, TEXTS),
    st.builds(ResumeTraining, NAMES, st.none() | TEXTS),
    st.builds(TagModel, NAMES, NAMES, st.none() | st.integers(1, 2**31 - 1), st.booleans()),
    st.builds(DropTag, NAMES, NAMES, st.booleans(), st.booleans()),
    st.builds(DropVersion, NAMES, NAMES, st.booleans(), st.booleans()),
    st.builds(PromoteModel, NAMES, NAMES),
    st.builds(RollbackModel, NAMES, NAMES),
    st.builds(
        CreateAggregationFunction,
        NAMES,
        TEXTS | st.text("$abody01\n ", min_size=1).filter(str.strip),
        NAMES,
        BOOL,
    ),
    st.builds(DropAggregationFunction, NAMES, BOOL),
)
SERVING: st.SearchStrategy[Command] = st.one_of(
    st.builds(CreateSubscription, NAMES, NAMES, NAMES, OPTION_LISTS, BOOL),
    st.builds(AlterSubscription, NAMES, SOME_OPTIONS, BOOL),
    st.builds(
        ResetSubscription,
        NAMES,
        st.lists(st.builds(OptionName, NAMES), min_size=1, max_size=3).map(tuple),
        BOOL,
    ),
    st.builds(RefreshSubscription, NAMES, BOOL),
    st.builds(DropSubscription, NAMES, BOOL, BOOL),
    st.builds(GrantSubscribe, NAMES, st.none() | NAMES),
    st.builds(RevokeSubscribe, NAMES, st.none() | NAMES),
    st.builds(
        CreateExperiment,
        NAMES,
        NAMES,
        st.lists(ARMS, min_size=1, max_size=3).map(tuple),
        OPTION_LISTS,
        BOOL,
    ),
    st.builds(DropExperiment, NAMES, BOOL),
)
SUBJECT = TEXTS | st.builds(SealedSubject, st.binary(min_size=1).map(lambda raw: b64encode(raw).decode()))
SUBJECTS: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        EraseSubjects,
        NAMES,
        st.lists(SUBJECT, min_size=1, max_size=4, unique=True).map(tuple),
        OPTION_LISTS,
    ),
    st.builds(ExportSubject, SUBJECT, NAMES, TEXTS, st.sampled_from(["json", "csv"])),
    st.builds(GrantConsent, SUBJECT, NAMES, st.none() | TEXTS, st.none() | TEXTS),
    st.builds(RevokeConsent, SUBJECT, NAMES, st.none() | TEXTS),
    st.builds(
        CreateAlert, NAMES, NAMES, st.lists(CONDITIONS, min_size=1, max_size=3).map(tuple), TEXTS, BOOL
    ),
    st.builds(DropAlert, NAMES, st.none() | NAMES, BOOL),
    st.builds(AttestCompliance, NAMES, TEXTS, TEXTS, TEXTS),
)
COMMANDS = MEMBERSHIP | LEARNING | SERVING | SUBJECTS

PIECES = st.sampled_from(
    [
        "CREATE",
        "FEDERATED",
        "WORKSPACE",
        "MODEL",
        "DATASET",
        "NODE",
        "TRAINING",
        "ALTER",
        "DROP",
        "REGISTER",
        "START",
        "STOP",
        "CHECKPOINT",
        "RESUME",
        "TAG",
        "ROLLBACK",
        "VERSION",
        "AGGREGATION",
        "FUNCTION",
        "RETURNS",
        "FLOAT",
        "LANGUAGE",
        "EXPORT",
        "DATA",
        "SUBJECT",
        "CONSENT",
        "GRANT",
        "REVOKE",
        "SUBSCRIPTION",
        "SUBSCRIBE",
        "REFRESH",
        "ALERT",
        "ATTEST",
        "COMPLIANCE",
        "UNTIL",
        "WHEN",
        "NOTIFY",
        "data_subject_id",
        "<",
        "WITH",
        "(",
        ")",
        "[",
        "]",
        ",",
        "=",
        ";",
        "IN",
        "FOR",
        "TABLE",
        "WHERE",
        "SET",
        "'n'",
        "w",
        "m",
        "1",
        "-1",
        "1e5",
        "true",
        "ARRAY",
        "federated",
        "federated_predict",
        "(",
        "'m'",
        ",",
        "a",
        "=>",
        "1",
        ")",
        "SELECT",
        "FROM",
        "t",
        "AS",
        "BEGIN",
        "ATOMIC",
        "END",
        "CASE",
        "$$",
        "$1",
        "--",
        "/*",
        "*/",
        "E'\\x",
        "U&",
        "UESCAPE",
        "DELETE",
        "IF",
        "NOT",
        "EXISTS",
        '"',
        "'",
        "\n",
        "é",
    ]
)
ANY_TEXT = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=25).map(" ".join))


def only_federated_errors(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except FederatedError as error:
        assert error.message
        return None


@settings(deadline=None)
@given(COMMANDS)
def test_what_is_rendered_reads_back_the_same(command: Command) -> None:
    assert parse(render(command)) == command


@settings(deadline=None)
@given(COMMANDS)
def test_a_rendered_command_is_one_the_proxy_hands_over_unchanged(command: Command) -> None:
    text = render(command)
    rewritten = rewrite(f"SELECT 1; {text} ; SELECT 2")
    assert may_concern(text.encode())
    assert rewritten is not None
    assert rewritten.tags[0] is None
    assert rewritten.tags[2] is None
    assert text in rewritten.text


@settings(deadline=None)
@given(ANY_TEXT)
def test_any_text_is_parsed_or_refused_with_an_error_of_ours(text: str) -> None:
    only_federated_errors(lambda: parse(text))


@settings(deadline=None)
@given(ANY_TEXT)
def test_any_text_is_rewritten_or_left_alone(text: str) -> None:
    rewritten = rewrite(text)
    if rewritten is None:
        return
    assert "federated" in text.lower()
    for position in range(1, len(rewritten.text) + 2):
        assert 1 <= rewritten.original_position(position) <= len(text) + 1


@settings(deadline=None)
@given(st.text(max_size=80).filter(lambda text: "federated" not in text.lower()))
def test_text_without_the_word_is_never_changed(text: str) -> None:
    assert rewrite(text) is None
    assert not may_concern(text.encode(errors="surrogatepass"))


@settings(deadline=None)
@given(
    st.sampled_from(OptionKind),
    st.data(),
)
def test_any_value_of_any_option_is_taken_or_refused_with_an_error_of_ours(
    kind: OptionKind, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(OPTIONS[kind])))
    text = st.text(max_size=20) | st.sampled_from(
        ["[1, 2]", "[NaN]", '{"a": [0, 1]}', '["\\ud800"]', "random(3)"]
    )
    value = data.draw(st.one_of(SCALARS, text, st.lists(SCALARS, max_size=3).map(tuple)))
    values = only_federated_errors(lambda: validate(kind, [Option(name, value, 1)], BUILT))
    if values is not None:
        assert validate(kind, [Option(name, _as_typed(values[name]), 1)], BUILT) == values


def _as_typed(value: Any) -> Any:
    """A canonical value, written as a user would."""
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}": {bounds}' for key, bounds in value.items()) + "}"
    return value

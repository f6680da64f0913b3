"""The option table and the registries say the same: what a part reads can be typed, and nothing else works."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Literal, get_args, get_origin

import pytest

from federated_sql import FederatedError, Option, OptionKind, validate
from federated_sql.option_values import OptionSpec, OptionType
from federated_sql.options import OPTIONS
from heliosdb.domain.bounds import Bounds
from heliosdb.domain.settings import NoSettings, within
from heliosdb.parts.algorithms import ALGORITHMS
from heliosdb.parts.built import READ_FROM_OPTIONS, built_parts
from heliosdb.parts.codecs import CODECS
from heliosdb.parts.protocols import PROTOCOLS
from heliosdb.parts.registry import Registry
from heliosdb.parts.selections import SELECTIONS, read_selection
from heliosdb.parts.strategies import STRATEGIES

MODEL = OPTIONS[OptionKind.MODEL]
TYPES: dict[Any, tuple[OptionType, ...]] = {
    int: (OptionType.INTEGER,),
    float: (OptionType.NUMBER,),
    bool: (OptionType.BOOLEAN,),
    str: (OptionType.TEXT, OptionType.CHOICE),
    tuple[int, ...]: (OptionType.INTEGER_ARRAY,),
    tuple[str, ...]: (OptionType.TEXT_ARRAY,),
}


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    for registry in (*READ_FROM_OPTIONS, SELECTIONS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))


def check_field(field: dataclasses.Field[Any], annotation: Any) -> None:
    """Assert that an option of the field's name has its type and default, and bounds as wide or wider.

    An option whose default is not the same for all parts names them.
    """
    spec = MODEL.get(field.name)
    assert spec is not None, f"{field.name} is no option of a model"
    assert spec.of_parts, f"the option {field.name} is none of parts"
    union = get_origin(annotation) in (typing.Union, types.UnionType)
    kind = get_args(annotation)[0] if union else annotation
    if get_origin(kind) is Literal:
        listed = get_args(kind)
        assert set(listed) <= set(spec.choices) or not spec.choices, field.name
        kind = type(listed[0])
    assert spec.type in TYPES[kind], field.name
    default = given_default(field)
    if spec.default is None and default is not None:
        assert f"`{default}`" in (spec.derived or ""), field.name
    else:
        assert spec.default == default, field.name
    bounds = field.metadata.get("within")
    if bounds is not None:
        assert spec.minimum is None or bounds.least >= spec.minimum, field.name
        assert spec.above is None or bounds.least > spec.above, field.name
        assert spec.maximum is None or bounds.most <= spec.maximum, field.name
        assert spec.below is None or bounds.most < spec.below, field.name


def given_default(field: dataclasses.Field[Any]) -> Any:
    default = None if field.default is dataclasses.MISSING else field.default
    return list(default) if isinstance(default, tuple) else default


def settings_classes() -> set[type]:
    return {entry.settings for registry in READ_FROM_OPTIONS for entry in registry.entries()}


@pytest.mark.parametrize("kind", sorted(settings_classes(), key=lambda kind: kind.__name__))
def test_every_setting_of_a_part_is_an_option_of_the_same_default_type_and_bounds(kind: type) -> None:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        check_field(field, hints[field.name])


@dataclasses.dataclass(frozen=True)
class Unknown:
    sorcery: int = 1


@dataclasses.dataclass(frozen=True)
class OtherDefault:
    trees: int = within(Bounds(1, 10_000), default=5)


@dataclasses.dataclass(frozen=True)
class Wider:
    trees: int = within(Bounds(0, 10_000), default=100)


@dataclasses.dataclass(frozen=True)
class OtherType:
    trees: float = 100


@dataclasses.dataclass(frozen=True)
class NotOfParts:
    rounds: int = 50


@pytest.mark.parametrize("kind", [Unknown, OtherDefault, Wider, OtherType, NotOfParts])
def test_a_setting_that_differs_from_its_option_is_found(kind: type) -> None:
    (field,) = dataclasses.fields(kind)
    with pytest.raises(AssertionError):
        check_field(field, typing.get_type_hints(kind)[field.name])


def sample(spec: OptionSpec) -> Any:
    """A value that an option allows."""
    if spec.default is not None:
        return tuple(spec.default) if isinstance(spec.default, list) else spec.default
    if spec.type is OptionType.TEXT_ARRAY:
        return ("one", "another")
    if spec.type is OptionType.INTEGER_ARRAY:
        return (1, 8, 8)
    if spec.type is OptionType.TEXT:
        return "a_column"
    return spec.choices[0] if spec.choices else spec.maximum or (spec.below or 1) / 2


OF_PARTS = [(kind, spec) for kind in OPTIONS for spec in OPTIONS[kind].values() if spec.of_parts]


@pytest.mark.parametrize(("kind", "spec"), OF_PARTS, ids=[f"{k.value}.{s.name}" for k, s in OF_PARTS])
def test_an_option_of_parts_works_exactly_if_a_part_names_it(kind: OptionKind, spec: OptionSpec) -> None:
    built = built_parts()
    value = sample(spec)
    option = Option(spec.name, int(value) if spec.type is OptionType.INTEGER else value)
    works = (
        spec.name in built.options
        or value in built.values.get(spec.name, ())
        or value in (spec.built_values or ())
    )
    if works:
        assert spec.name in validate(kind, [option], built)
        return
    with pytest.raises(FederatedError) as caught:
        validate(kind, [option], built)
    assert caught.value.sqlstate == "0A000"


@pytest.mark.parametrize(
    ("registry", "option"),
    [(ALGORITHMS, "algorithm"), (STRATEGIES, "aggregation"), (CODECS, "compression")],
    ids=["algorithm", "aggregation", "compression"],
)
def test_every_registered_name_can_be_typed(registry: Registry, option: str) -> None:
    for name in registry.names():
        assert validate(OptionKind.MODEL, [Option(option, name)], built_parts()) == {option: name}


def test_every_registered_selection_can_be_typed_and_read() -> None:
    for entry in SELECTIONS.entries():
        text = entry.name if entry.settings is NoSettings else f"{entry.name}(7)"
        option = Option("node_selection", text)
        assert validate(OptionKind.WORKSPACE, [option], built_parts()) == {"node_selection": text}
        assert read_selection(text)[0] == entry


def test_what_is_registered_is_built_at_once(registries: None) -> None:
    @dataclasses.dataclass(frozen=True)
    class Convolution:
        threshold: int | None = within(Bounds(2, 10_000), default=None)

    Convolution.__annotations__["threshold"] = int | None
    ALGORITHMS.register("toy", object(), settings=Convolution)
    PROTOCOLS.register("toy_sums", object())

    built = built_parts()

    given = {
        "algorithm": "toy",
        "threshold": 3,
        "secure_aggregation": True,
        "aggregation_protocol": "toy_sums",
    }
    options = [Option(name, value) for name, value in given.items()]
    assert validate(OptionKind.MODEL, options, built) == given
    with pytest.raises(FederatedError):
        validate(OptionKind.MODEL, [Option("aggregation_protocol", "plain")], built)


def test_of_an_option_of_which_parts_read_some_values_those_are_built(registries: None) -> None:
    @dataclasses.dataclass(frozen=True)
    class Coarse:
        activation: Any = "relu"

    Coarse.__annotations__["activation"] = Literal["relu", "tanh"]
    for name in ("neural_network", "cnn", "lstm", "gru", "transformer"):
        del ALGORITHMS._entries[name]
    ALGORITHMS.register("toy", object(), settings=Coarse)

    built = built_parts()

    assert validate(OptionKind.MODEL, [Option("activation", "tanh")], built) == {"activation": "tanh"}
    with pytest.raises(FederatedError) as caught:
        validate(OptionKind.MODEL, [Option("activation", "gelu")], built)
    assert caught.value.hint == "Supported: 'relu', 'tanh'."

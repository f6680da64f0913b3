"""A task's settings on the wire: each by its name, with a value of one of eight types.

What always holds: settings travel in ascending order of their names, each once, so that the same settings are
the same bytes; what is read back is equal, of the same types, and within the limits of transport/limits.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from types import MappingProxyType
from typing import Any, TypeVar

from heliosdb.domain.errors import FederatedError, invalid_value
from heliosdb.domain.settings import Setting, Settings
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.checks import read_finite, require

_T = TypeVar("_T")

_NAME = re.compile(rf"[a-z_][a-z0-9_]{{0,{limits.MAX_SHORT_NAME_CHARACTERS - 1}}}")


def settings_to_proto(settings: Settings) -> list[pb.Setting]:
    """Settings for the wire; FederatedError INVALID_VALUE for a value that is no setting."""
    return [_setting_to_proto(name, settings[name]) for name in sorted(settings)]


def settings_from_proto(settings: Iterable[pb.Setting]) -> Settings:
    """Settings from the wire, read-only; FederatedError INVALID_VALUE names the setting that is wrong."""
    found: dict[str, Setting] = {}
    last = ""
    for one in settings:
        require(len(found) < limits.MAX_SETTINGS, f"there are more than {limits.MAX_SETTINGS} settings")
        require(_NAME.fullmatch(one.name) is not None, "a setting's name is none")
        require(last < one.name, "the settings are not in the order of their names, each once")
        found[one.name] = _value_from_proto(one)
        last = one.name
    return MappingProxyType(found)


def _setting_to_proto(name: str, value: Setting) -> pb.Setting:
    try:
        match value:
            case bool():
                return pb.Setting(name=name, flag=value)
            case int():
                return pb.Setting(name=name, integer=value)
            case float():
                return pb.Setting(name=name, number=value)
            case str():
                return pb.Setting(name=name, text=value)
            case tuple():
                return _list_to_proto(name, value)
    except ValueError as error:
        # protobuf's word for an integer beyond 64 bits, and for text that is no UTF-8.
        raise _unknown(name) from error
    raise _unknown(name)


def _list_to_proto(name: str, values: tuple[Any, ...]) -> pb.Setting:
    kinds = {type(one) for one in values}
    if kinds <= {bool}:
        return pb.Setting(name=name, flags=pb.Flags(values=values))
    if kinds == {int}:
        return pb.Setting(name=name, integers=pb.Integers(values=values))
    if kinds == {str}:
        return pb.Setting(name=name, texts=pb.Texts(values=values))
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
        return pb.Setting(name=name, numbers=pb.Numbers(values=values))
    raise _unknown(name)


def _unknown(name: str) -> FederatedError:
    return invalid_value(f"setting {name} is of no type that settings have")


def _value_from_proto(setting: pb.Setting) -> Setting:
    match setting.WhichOneof("value"):
        case "flag":
            return setting.flag
        case "integer":
            return setting.integer
        case "number":
            return _number(setting.name, setting.number)
        case "text":
            return _text(setting.name, setting.text)
        case _:
            return _list_from_proto(setting)


def _list_from_proto(setting: pb.Setting) -> Setting:
    name = setting.name
    match setting.WhichOneof("value"):
        case "flags":
            return _counted(name, setting.flags.values)
        case "integers":
            return _counted(name, setting.integers.values)
        case "numbers":
            return tuple(_number(name, one) for one in _counted(name, setting.numbers.values))
        case "texts":
            return tuple(_text(name, one) for one in _counted(name, setting.texts.values))
        case _:
            raise invalid_value(f"setting {name} has no value")


def _number(name: str, number: float) -> float:
    return read_finite(f"setting {name}", number)


def _text(name: str, text: str) -> str:
    fits = len(text) <= limits.MAX_SETTING_CHARACTERS and "\0" not in text
    require(fits, f"setting {name} is too long, or holds a NUL")
    return text


def _counted(name: str, values: Collection[_T]) -> tuple[_T, ...]:
    require(
        len(values) <= limits.MAX_SETTING_VALUES,
        f"setting {name} has more than {limits.MAX_SETTING_VALUES} values",
    )
    return tuple(values)

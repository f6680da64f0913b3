"""A daemon's settings as the TOML file that holds them.

What always holds: the file is checked whole, and an error names the key and never the value, which may hold a
password.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from federated_sql.errors import FederatedError, invalid_value

Settings = TypeVar("Settings", bound=BaseModel)


def read_settings(path: Path, kind: type[Settings]) -> Settings:
    """Read and check the file; FederatedError INVALID_VALUE says what is wrong with it."""
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
        return kind.model_validate(values)
    except OSError as error:
        raise invalid_value(f"cannot read the configuration {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise invalid_value(f"the configuration {path} is not TOML: {error}") from error
    except ValidationError as error:
        raise _explain(path, error) from None


def _explain(path: Path, error: ValidationError) -> FederatedError:
    faults = (f"{name}: {wrong}" if name else wrong for name, wrong in name_faults(error))
    return invalid_value(f"the configuration {path} is not valid", detail="; ".join(faults))


def name_faults(error: ValidationError) -> Iterator[tuple[str, str]]:
    """Give the setting of each fault, "" for what is about several, and what is wrong, without its value."""
    for fault in error.errors(include_input=False, include_url=False):
        yield ".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")

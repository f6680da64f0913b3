"""The coordinator's settings: one TOML file, checked whole before anything starts.

What always holds: an unknown key is refused; an error names the key and never the value, which may hold a
password.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from heliosdb.catalog.conninfo import ConnectionString
from heliosdb.domain.errors import FederatedError, invalid_value
from heliosdb.parts.loading import MODULE_NAME

Seconds = Annotated[float, Field(gt=0, le=3600)]


class CoordinatorConfig(BaseModel):
    """Where the catalog is, who this coordinator is, and how often it looks.

    database: libpq connection string of a role that is a member of federated_daemon. ca_bundle: authorities
    for the first contact with nodes registered without a certificate; None: the system's. state_directory
    holds the sealing keys; coordinators that stand by for each other share it. Intervals in seconds. parts:
    modules that register further parts of rounds; what they hold runs with all rights of this process.
    health_socket: where the daemon answers `heliosdb health`, a file of its own. audit_head_interval: while
    somebody trains in a workspace, the next head of its audit log is signed after so long.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    database: ConnectionString
    certificate: Path
    private_key: Path
    ca_bundle: Path | None = None
    state_directory: Path
    ready_file: Path | None = None
    health_socket: Path | None = None
    poll_interval: Annotated[float, Field(gt=0, le=0.5)] = 0.5
    heartbeat_interval: Seconds = 10.0
    heartbeat_timeout: Seconds = 5.0
    reconnect_interval: Seconds = 10.0
    audit_head_interval: Seconds = 60.0
    concurrent_runs: Annotated[int, Field(ge=1, le=1_000)] = 16
    concurrent_tasks: Annotated[int, Field(ge=1, le=10_000)] = 128
    parts: tuple[Annotated[str, Field(pattern=MODULE_NAME)], ...] = ()


def load_config(path: Path) -> CoordinatorConfig:
    """Read and check the file; FederatedError INVALID_VALUE says what is wrong with it."""
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
        return CoordinatorConfig.model_validate(values)
    except OSError as error:
        raise invalid_value(f"cannot read the configuration {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise invalid_value(f"the configuration {path} is not TOML: {error}") from error
    except ValidationError as error:
        raise _explain(path, error) from None


def _explain(path: Path, error: ValidationError) -> FederatedError:
    faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    return invalid_value(f"the configuration {path} is not valid", detail="; ".join(faults))

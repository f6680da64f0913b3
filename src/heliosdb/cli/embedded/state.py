"""What an embedded installation has chosen once and keeps: its ports and its nodes.

What always holds: a port written here never changes by itself, because node endpoints are registered in the
catalog and clients remember the rest.
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from heliosdb.cli.embedded.files import write_atomically
from heliosdb.cli.embedded.layout import COORDINATOR, node_names
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.wording import counted

_FORMAT = 1
# Below the range from which Linux takes the local ports of outgoing connections, so that a port that is free
# while the installation is down is not likely to be taken when it comes up again.
_FIRST_PORT, _LAST_PORT = 20_000, 32_000


@dataclass(frozen=True, slots=True)
class State:
    """The ports of one installation; `databases` maps each cluster's name to the port of its server.

    api_port: of the page; 0 where an earlier version has made this installation, until the next `up`.
    """

    proxy_port: int
    databases: dict[str, int]
    endpoints: dict[str, int]
    api_port: int = 0

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the nodes, in the order in which they were made."""
        return tuple(self.endpoints)

    @property
    def clusters(self) -> tuple[str, ...]:
        """The names of the clusters: the coordinator's first."""
        return (COORDINATOR, *self.nodes)


def port_is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose_port(taken: Collection[int]) -> int:
    """A port on which nobody listens and that is not in `taken`."""
    for _ in range(1000):
        port = _FIRST_PORT + secrets.randbelow(_LAST_PORT - _FIRST_PORT)
        if port not in taken and port_is_free(port):
            return port
    raise FederatedError(
        ErrorCode.PROGRAM_LIMIT, f"no free TCP port was found between {_FIRST_PORT} and {_LAST_PORT}"
    )


def plan_state(known: State | None, nodes: int | None, proxy_port: int | None) -> State:
    """The state for `up`: what is known, grown to `nodes`, with the wished proxy port (0 = any free)."""
    current = known or State(proxy_port=0, databases={}, endpoints={})
    count = nodes if nodes is not None else (len(current.nodes) or 3)
    if count < len(current.nodes):
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f"this directory holds {counted(len(current.nodes), 'node')}, and {count} were asked for",
            hint="A node is never removed by itself; give another directory with --dir for a smaller set.",
        )
    databases, endpoints = dict(current.databases), dict(current.endpoints)
    taken = {current.proxy_port, proxy_port or 0, current.api_port, *databases.values(), *endpoints.values()}

    def take() -> int:
        port = choose_port(taken)
        taken.add(port)
        return port

    for name in (COORDINATOR, *node_names(count)):
        if name not in databases:
            databases[name] = take()
        if name != COORDINATOR and name not in endpoints:
            endpoints[name] = take()
    wished = proxy_port if proxy_port is not None else (current.proxy_port or 6432)
    kept = wished or current.proxy_port or take()
    api_port = current.api_port or take()
    return replace(current, proxy_port=kept, databases=databases, endpoints=endpoints, api_port=api_port)


def read_state(path: Path) -> State | None:
    """The state at `path`, or None where there is none; WRONG_STATE for a file that is not understood."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        raise _not_understood(path) from None
    try:
        if document["format"] != _FORMAT:
            raise _not_understood(path)
        return State(
            proxy_port=int(document["proxy_port"]),
            databases={str(name): int(port) for name, port in document["databases"].items()},
            endpoints={str(name): int(port) for name, port in document["endpoints"].items()},
            api_port=int(document.get("api_port", 0)),
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        raise _not_understood(path) from None


def write_state(path: Path, state: State) -> None:
    """Keep `state` at `path`."""
    document = {
        "format": _FORMAT,
        "proxy_port": state.proxy_port,
        "databases": state.databases,
        "endpoints": state.endpoints,
        "api_port": state.api_port,
    }
    write_atomically(path, (json.dumps(document, indent=2) + "\n").encode())


def _not_understood(path: Path) -> FederatedError:
    return FederatedError(
        ErrorCode.WRONG_STATE,
        f'"{path}" is not a state file that this version understands',
        hint="A newer version may have written it; restore it from a copy or choose another directory.",
    )

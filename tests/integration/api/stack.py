"""A federation with `heliosdb api` before it: three nodes, a coordinator, and a role of each kind with a token."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from psycopg import sql

from tests.integration.coordinator.support import World
from tests.support.ports import free_port

LOGIN = "rest_login"
ROLES = {
    "rest_admin": "federated_admin",
    # Owns nothing.
    "rest_stranger": "federated_admin",
    "rest_operator": "federated_operator",
    "rest_analyst": "federated_analyst",
    "rest_auditor": "federated_auditor",
    "rest_nobody": None,
}
PREFIX = "/api/v1/federated"
DEADLINE = 120.0


@dataclass
class Api:
    """A running API. tokens: one a role."""

    world: World
    url: str
    tokens: dict[str, str]
    process: subprocess.Popen[bytes]
    log: Path
    verify: Any = True
    clients: dict[str | None, httpx.Client] = field(default_factory=dict)

    def client(self, role: str | None = None, **options: Any) -> httpx.Client:
        """A client with a role's token."""
        headers = {} if role is None else {"Authorization": f"Bearer {self.tokens[role]}"}
        return httpx.Client(
            base_url=self.url + PREFIX, headers=headers, timeout=DEADLINE, verify=self.verify, **options
        )

    def call(self, role: str | None, method: str, path: str, **options: Any) -> httpx.Response:
        """One call as a role."""
        if role not in self.clients:
            self.clients[role] = self.client(role)
        return self.clients[role].request(method, path, **options)


def write_settings(world: World, path: Path, **changes: object) -> str:
    """Write the settings of an API over the world's database; returns its URL."""
    port = free_port()
    rate = {"per_second": 100_000, "burst": 100_000}
    settings: dict[str, object] = {
        "database": world.cluster.dsn(world.database, user=LOGIN),
        "listen_port": port,
        "ready_file": str(path.with_suffix(".ready")),
        "health_socket": str(path.with_suffix(".health")),
        "event_interval": 0.1,
        "identity_rate": rate,
        "address_rate": rate,
    } | changes
    plain = {name: value for name, value in settings.items() if not isinstance(value, Mapping)}
    tables = {name: value for name, value in settings.items() if isinstance(value, Mapping)}
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in plain.items())
    for name, table in tables.items():
        text += f"[{name}]\n"
        for key, value in table.items():
            text += f"{key} = {_toml(value)}\n"
    path.write_text(text)
    return f"{'https' if 'certificate' in changes else 'http'}://localhost:{port}".replace(
        "localhost", "127.0.0.1"
    )


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


@contextmanager
def running_api(world: World, name: str, tokens: dict[str, str], **settings: object) -> Iterator[Api]:
    """Start `heliosdb api`, and wait until it and its database answer."""
    path = world.federation.directory / f"{name}.toml"
    url = write_settings(world, path, **settings)
    log = path.with_suffix(".log")
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "heliosdb.cli.main", "api", "--config", str(path)], stderr=stream
        )
    api = Api(world, url, tokens, process, log)
    try:
        end = time.monotonic() + DEADLINE
        ready = path.with_suffix(".ready")
        while not (ready.exists() and json.loads(ready.read_text())["state"] == "ready"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        yield api
    finally:
        for client in api.clients.values():
            client.close()
        process.terminate()
        assert process.wait(DEADLINE) == 0, log.read_text()


def make_roles(world: World) -> dict[str, str]:
    """Make the login role and one role of each kind; returns their tokens."""
    with world.cluster.connect(world.database) as connection:
        connection.execute(f"CREATE ROLE {LOGIN} LOGIN NOINHERIT IN ROLE federated_api")
        for role, group in ROLES.items():
            connection.execute(sql.SQL("CREATE ROLE {} {}").format(
                sql.Identifier(role), sql.SQL("" if group is None else f"IN ROLE {group}")))  # fmt: skip
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(LOGIN)))
        return {role: make_token(world, role) for role in ROLES}


def make_token(world: World, role: str, by: str = "postgres") -> str:
    """Make a token, as a superuser or another role."""
    with world.cluster.connect(world.database) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(by)))
        row = connection.execute("SELECT federated_create_token(%s, '1 hour')", [role]).fetchone()
        assert row is not None
        return str(row[0])


def drop_roles(world: World) -> None:
    """Drop them: they are the whole cluster's."""
    with world.cluster.connect() as connection:
        for role in (*ROLES, LOGIN):
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


def add_nodes(world: World) -> None:
    """Three nodes that share patients with the workspace."""

    async def add() -> None:
        for number, name in enumerate(("a", "b", "c")):
            await world.add_site(name, rows=1200, seed=0.1 + number / 10)

    asyncio.run(add())


def follow(api: Api, run_id: str, **headers: str) -> list[tuple[str, str, Any]]:
    """The events of a run until the stream ends: id, name, data."""
    client = api.clients.setdefault("rest_analyst", api.client("rest_analyst"))
    with client.stream("GET", f"/runs/{run_id}/events", headers=headers) as stream:
        assert stream.status_code == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        text = "".join(stream.iter_text())
    found = re.findall(r"(?:id: (\d+)\n)?event: (\w+)\ndata: (.*)\n\n", text)
    return [(number, name, json.loads(data)) for number, name, data in found]


def query(api: Api, text: str, *values: object) -> list[dict[str, Any]]:
    return api.world.query(text, *values)


def until_served(api: Api) -> None:
    """Wait until the API has found out that connections were cut, and has new ones."""
    end = time.monotonic() + DEADLINE
    while api.call("rest_analyst", "GET", "/workspaces").status_code == 503:
        assert time.monotonic() < end

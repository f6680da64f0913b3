"""A bad peer is refused in the handshake, before any handler runs, in both directions; nothing below TLS 1.3."""

from __future__ import annotations

import asyncio
import datetime as dt
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Greeting, Introduction
from heliosdb.domain.ids import NodeName, RunId, WorkspaceName
from heliosdb.transport.authority import Authority
from heliosdb.transport.client import NodeClient
from heliosdb.transport.identity import (
    Identity,
    certificate_text,
    fetch_certificate,
    fingerprint,
    pinned_bundle,
    split_endpoint,
)
from heliosdb.transport.messages import ReceivedTask
from heliosdb.transport.server import ServerIdentity, make_server, server_credentials
from heliosdb.transport.update_messages import SealedUpdate
from tests.support.performers import Unsubscribed

TIMEOUT = 120.0
GREETING = Greeting(WorkspaceName("w"), NodeName("n"))
AUTHORITY, STRANGER = Authority.create("one"), Authority.create("two")
NOW, DAY = dt.datetime.now(dt.UTC), dt.timedelta(days=1)


def issue(
    name: str,
    *,
    host: str = "localhost",
    authority: Authority = AUTHORITY,
    starts: float = -1,
    ends: float = 1,
) -> Identity:
    return authority.issue(name, [host], not_before=NOW + starts * DAY, not_after=NOW + ends * DAY)


COORDINATOR, NODE = issue("coordinator"), issue("node")
EXPIRED, FUTURE = issue("node", starts=-2, ends=-1), issue("node", starts=1, ends=2)
OTHER_NODE, OTHER_AUTHORITY = issue("node"), issue("node", authority=STRANGER)
OTHER_HOST = issue("node", host="elsewhere.example")


@dataclass
class Witness(Unsubscribed):
    """A performer that only notes that it was reached."""

    reached: int = 0
    told: list[tuple[WorkspaceName, NodeName, frozenset[RunId]]] = field(default_factory=list)

    async def introduce(self, greeting: Greeting) -> Introduction:
        self.reached += 1
        return Introduction(())

    async def alive(self) -> None:
        self.reached += 1

    async def forget(self, workspace: WorkspaceName, node: NodeName, ended: frozenset[RunId]) -> None:
        self.reached += 1
        self.told.append((workspace, node, ended))
        if node != GREETING.node:
            raise FederatedError(ErrorCode.UNDEFINED_OBJECT, "no such node")

    async def perform(self, received: ReceivedTask) -> SealedUpdate:
        raise AssertionError

    def sent(self, received: ReceivedTask) -> None:
        raise AssertionError


@asynccontextmanager
async def serving(current: Callable[[], ServerIdentity], witness: Witness) -> AsyncIterator[int]:
    server, port = make_server(witness, lambda: current().pinned, server_credentials(current), "localhost", 0)
    await server.start()
    yield port
    await server.stop(0)


def fixed(identity: Identity, *pinned: Identity) -> Callable[[], ServerIdentity]:
    return lambda: ServerIdentity(identity, tuple(peer.certificate_pem for peer in pinned))


async def greet(port: int, identity: Identity, pinned: Sequence[Identity]) -> FederatedError | None:
    client = NodeClient(f"https://localhost:{port}", [peer.certificate_pem for peer in pinned], identity)
    try:
        await client.greet(GREETING, TIMEOUT)
    except FederatedError as error:
        return error
    finally:
        await client.close()
    return None


async def forget(
    port: int, identity: Identity, ended: frozenset[RunId], node: str = "n"
) -> FederatedError | None:
    client = NodeClient(f"https://localhost:{port}", [NODE.certificate_pem], identity)
    try:
        await client.forget(GREETING.workspace, NodeName(node), ended, TIMEOUT)
    except FederatedError as error:
        return error
    finally:
        await client.close()
    return None


async def test_the_pinned_pair_meets() -> None:
    witness = Witness()
    async with serving(fixed(NODE, COORDINATOR), witness) as port:
        assert await greet(port, COORDINATOR, [NODE]) is None
    assert witness.reached == 1


@pytest.mark.parametrize(
    "stranger",
    [
        pytest.param(issue("coordinator"), id="same name and authority, other key"),
        pytest.param(OTHER_NODE, id="a node's valid certificate"),
        pytest.param(issue("coordinator", authority=STRANGER), id="other authority"),
    ],
)
async def test_a_node_lets_in_no_coordinator_but_the_pinned_one(stranger: Identity) -> None:
    witness = Witness()
    async with serving(fixed(NODE, COORDINATOR), witness) as port:
        error = await greet(port, stranger, [NODE])
    assert error is not None
    assert error.code is ErrorCode.UNREACHABLE
    assert "may not accept the coordinator's certificate" in (error.hint or "")
    assert witness.reached == 0


async def test_only_the_pinned_coordinator_says_what_may_be_forgotten() -> None:
    witness, kept = Witness(), frozenset(RunId(UUID(int=number)) for number in range(1, 10_001))
    async with serving(fixed(NODE, COORDINATOR), witness) as port:
        assert await forget(port, COORDINATOR, kept) is None
        assert await forget(port, COORDINATOR, frozenset()) is None
        assert await forget(port, issue("coordinator"), frozenset()) is not None
        refused = await forget(port, COORDINATOR, frozenset(), node="m")
    assert [(workspace, node, len(runs)) for workspace, node, runs in witness.told] == [
        ("w", "n", 10_000),
        ("w", "n", 0),
        ("w", "m", 0),
    ]
    assert witness.told[0][2] == kept
    assert refused is not None
    assert "no such node" in refused.message


@pytest.mark.parametrize("lapsed", [EXPIRED, FUTURE], ids=["expired", "not yet valid"])
async def test_a_node_lets_in_no_pinned_coordinator_outside_its_time(lapsed: Identity) -> None:
    witness = Witness()
    async with serving(fixed(NODE, lapsed), witness) as port:
        assert await greet(port, lapsed, [NODE]) is not None
    assert witness.reached == 0


@pytest.mark.parametrize(
    ("shown", "pinned", "message"),
    [
        pytest.param(OTHER_NODE, NODE, "is not the pinned one", id="another node of the same authority"),
        pytest.param(OTHER_AUTHORITY, NODE, "is not the pinned one", id="other authority"),
        pytest.param(EXPIRED, EXPIRED, "has expired", id="expired"),
        pytest.param(FUTURE, FUTURE, "is not yet valid", id="not yet valid"),
        pytest.param(OTHER_HOST, OTHER_HOST, "is not for the host name", id="wrong name"),
    ],
)
async def test_a_coordinator_speaks_to_no_node_but_the_pinned_one(
    shown: Identity, pinned: Identity, message: str
) -> None:
    witness = Witness()
    async with serving(fixed(shown, COORDINATOR), witness) as port:
        error = await greet(port, COORDINATOR, [pinned])
    assert error is not None
    assert error.code is ErrorCode.IDENTITY
    assert message in error.message
    assert "ssl" not in error.message.lower().replace("https", "")
    assert witness.reached == 0


async def test_certificates_rotate_on_both_sides_without_a_failed_call() -> None:
    new_node, new_coordinator = issue("node"), issue("coordinator")
    now = [fixed(NODE, COORDINATOR)]
    witness = Witness()

    def current() -> ServerIdentity:
        return now[-1]()

    async with serving(current, witness) as port:
        both = [NODE, new_node]
        open_before = NodeClient(
            f"https://localhost:{port}", [peer.certificate_pem for peer in both], COORDINATOR
        )
        await open_before.greet(GREETING, TIMEOUT)
        now.append(fixed(new_node, COORDINATOR, new_coordinator))
        await open_before.greet(GREETING, TIMEOUT)
        assert await greet(port, COORDINATOR, both) is None
        assert await greet(port, new_coordinator, both) is None
        now.append(fixed(new_node, new_coordinator))
        assert await greet(port, new_coordinator, [new_node]) is None
        assert await greet(port, COORDINATOR, [new_node]) is not None
        await open_before.close()
    assert witness.reached == 5


@pytest.mark.parametrize(("option", "connects"), [("-tls1_2", False), ("-tls1_1", False), ("-tls1_3", True)])
async def test_nothing_below_tls_1_3_is_spoken(option: str, connects: bool, tmp_path: Path) -> None:
    certificate, private_key = tmp_path / "c.pem", tmp_path / "c.key"
    certificate.write_bytes(COORDINATOR.certificate_pem)
    private_key.write_bytes(COORDINATOR.private_key_pem)
    async with serving(fixed(NODE, COORDINATOR), Witness()) as port:
        process = await asyncio.create_subprocess_exec(
            *("openssl", "s_client", option, "-cipher", "ALL:@SECLEVEL=0", "-connect", f"localhost:{port}"),
            *("-alpn", "h2", "-cert", certificate, "-key", private_key),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        printed = (await process.communicate())[0].decode(errors="replace")
    assert ("Cipher is (NONE)" not in printed) is connects
    assert (process.returncode == 0) is connects


async def test_first_contact_fetches_the_certificate_that_the_authority_vouches_for(tmp_path: Path) -> None:
    bundle, foreign = tmp_path / "ca.pem", tmp_path / "foreign.pem"
    bundle.write_bytes(AUTHORITY.certificate_pem)
    foreign.write_bytes(STRANGER.certificate_pem)
    async with serving(fixed(NODE, COORDINATOR), Witness()) as port:
        endpoint = f"https://localhost:{port}"
        fetched = await asyncio.to_thread(fetch_certificate, endpoint, COORDINATOR, bundle)
        with pytest.raises(FederatedError) as unknown:
            await asyncio.to_thread(fetch_certificate, endpoint, COORDINATOR, foreign)
    assert fingerprint(fetched) == NODE.fingerprint
    assert unknown.value.code is ErrorCode.IDENTITY
    for wrong in (EXPIRED, FUTURE, OTHER_HOST):
        async with serving(fixed(wrong, COORDINATOR), Witness()) as port:
            with pytest.raises(FederatedError) as raised:
                await asyncio.to_thread(fetch_certificate, f"https://localhost:{port}", COORDINATOR, bundle)
        assert raised.value.code is ErrorCode.IDENTITY


async def test_a_node_that_is_not_there_is_unreachable_in_both_ways() -> None:
    error = await greet(1, COORDINATOR, [NODE])
    assert error is not None
    assert (error.code, "refused" in error.message) == (ErrorCode.UNREACHABLE, True)
    with pytest.raises(FederatedError) as raised:
        await asyncio.to_thread(fetch_certificate, "https://localhost:1", None, None)
    assert raised.value.code is ErrorCode.UNREACHABLE


async def test_a_deaf_peer_times_out() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(deaf, "localhost", 0)
    port = server.sockets[0].getsockname()[1]
    client = NodeClient(f"https://localhost:{port}", [NODE.certificate_pem], COORDINATOR)
    with pytest.raises(FederatedError) as raised:
        await client.heartbeat(0.3)
    await client.close()
    server.close()
    assert raised.value.code is ErrorCode.TIMEOUT


async def test_an_authority_cannot_be_pinned_because_all_it_signs_would_be() -> None:
    with pytest.raises(FederatedError, match="authority"):
        NodeClient("https://localhost:1", [AUTHORITY.certificate_pem], COORDINATOR)
    with pytest.raises(FederatedError, match="no certificate is pinned"):
        pinned_bundle([])


def test_a_key_that_is_not_the_certificates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_bytes(NODE.certificate_pem)
    (tmp_path / "c.key").write_bytes(COORDINATOR.private_key_pem)
    with pytest.raises(FederatedError, match="does not belong") as raised:
        Identity.load(tmp_path / "c.pem", tmp_path / "c.key")
    assert raised.value.code is ErrorCode.IDENTITY
    assert "PRIVATE" not in repr(NODE)


def test_a_certificate_option_is_a_path_or_pem_text_and_its_file_is_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "node.pem"
    path.write_bytes(NODE.certificate_pem)
    assert (
        certificate_text(str(path)) == certificate_text(NODE.certificate_pem.decode()) == NODE.certificate_pem
    )
    path.write_text("a secret that is no certificate")
    for wrong in (str(path), str(tmp_path / "missing.pem"), "-----BEGIN CERTIFICATE-----\nx"):
        with pytest.raises(FederatedError) as raised:
            certificate_text(wrong)
        assert raised.value.code is ErrorCode.INVALID_VALUE
        assert "secret" not in raised.value.message


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://h:1",
        "https://h",
        "https://h:x",
        "h:1",
        "https://h:1/p",
        "https://u@h:1",
        "https://:1",
        "https://[::1:1",
    ],
)
def test_an_endpoint_of_another_form_is_refused(endpoint: str) -> None:
    with pytest.raises(FederatedError, match="https://host:port"):
        split_endpoint(endpoint)


def test_endpoints_are_read() -> None:
    assert split_endpoint("https://hospital-a.example.com:8443") == ("hospital-a.example.com", 8443)
    assert split_endpoint("https://[::1]:8443") == ("::1", 8443)

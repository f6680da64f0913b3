"""What a client says of calls that did not come through."""

from __future__ import annotations

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.transport.authority import Authority
from heliosdb.transport.client import NodeClient, UnsentError
from heliosdb.transport.rpc import aio, grpc

IDENTITY = Authority.create("authority").issue("node", ["localhost"])
UNCONNECTED = "failed to connect to all addresses; last error: UNKNOWN: "
WRONG = f"{UNCONNECTED}ipv4:127.0.0.1:1: Tls handshake failed: CERTIFICATE_VERIFY_FAILED: OK"
REFUSED = f"{UNCONNECTED}ipv6:%5B::1%5D:1: Failed to connect to remote host: Connection refused"


def failure(client: NodeClient, details: str) -> FederatedError:
    nothing = aio.Metadata()
    return client._failure(aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details))


@pytest.fixture
async def client() -> NodeClient:
    """A client whose node nobody asks."""
    return NodeClient("https://localhost:1", [IDENTITY.certificate_pem], IDENTITY)


async def test_a_wrong_certificate_is_not_forgotten_over_another_address_that_refuses(
    client: NodeClient,
) -> None:
    codes = [failure(client, details).code for details in (REFUSED, WRONG, REFUSED, REFUSED)]

    assert codes == [ErrorCode.UNREACHABLE] + [ErrorCode.IDENTITY] * 3


@pytest.mark.parametrize("details", [WRONG, REFUSED, "DNS resolution failed for nowhere"])
async def test_what_never_connected_sent_nothing(client: NodeClient, details: str) -> None:
    assert isinstance(failure(client, details), UnsentError)


@pytest.mark.parametrize("details", ["Socket closed", "recvmsg:Connection reset by peer"])
async def test_what_broke_off_may_have_sent_everything(client: NodeClient, details: str) -> None:
    failure(client, WRONG)

    error = failure(client, details)

    assert not isinstance(error, UnsentError)
    assert error.code is ErrorCode.UNREACHABLE

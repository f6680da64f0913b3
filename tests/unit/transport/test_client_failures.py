"""What a carrier over gRPC says of calls that did not come through."""

from __future__ import annotations

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.transport.authority import Authority
from heliosdb.transport.carriers import UnsentError
from heliosdb.transport.grpc_carrier import GrpcCarrier
from heliosdb.transport.rpc import aio, grpc

IDENTITY = Authority.create("authority").issue("node", ["localhost"])
UNCONNECTED = "failed to connect to all addresses; last error: UNKNOWN: "
WRONG = f"{UNCONNECTED}ipv4:127.0.0.1:1: Tls handshake failed: CERTIFICATE_VERIFY_FAILED: OK"
REFUSED = f"{UNCONNECTED}ipv6:%5B::1%5D:1: Failed to connect to remote host: Connection refused"


def failure(carrier: GrpcCarrier, details: str) -> FederatedError:
    nothing = aio.Metadata()
    return carrier._failure(aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details))


@pytest.fixture
async def carrier() -> GrpcCarrier:
    """A carrier to a node that nobody asks."""
    return GrpcCarrier("https://localhost:1", [IDENTITY.certificate_pem], IDENTITY)


async def test_a_wrong_certificate_is_not_forgotten_over_another_address_that_refuses(
    carrier: GrpcCarrier,
) -> None:
    codes = [failure(carrier, details).code for details in (REFUSED, WRONG, REFUSED, REFUSED)]

    assert codes == [ErrorCode.UNREACHABLE] + [ErrorCode.IDENTITY] * 3


@pytest.mark.parametrize("details", [WRONG, REFUSED, "DNS resolution failed for nowhere"])
async def test_what_never_connected_sent_nothing(carrier: GrpcCarrier, details: str) -> None:
    assert isinstance(failure(carrier, details), UnsentError)


@pytest.mark.parametrize("details", ["Socket closed", "recvmsg:Connection reset by peer"])
async def test_what_broke_off_may_have_sent_everything(carrier: GrpcCarrier, details: str) -> None:
    failure(carrier, WRONG)

    error = failure(carrier, details)

    assert not isinstance(error, UnsentError)
    assert error.code is ErrorCode.UNREACHABLE

"""Which failures are breaches of security, and which are not."""

from __future__ import annotations

import pytest

from heliosdb.coordinator.breaches import Breach, breach_of
from heliosdb.coordinator.certificates import check_not_expired
from heliosdb.domain.errors import ErrorCode, FederatedError, StrangerError
from heliosdb.domain.update import OversizedUpdateError
from heliosdb.transport.authority import Authority
from heliosdb.transport.carriers import UnsentError, UnsentToStrangerError
from heliosdb.transport.grpc_carrier import _unavailable
from heliosdb.transport.messages import NodeRefusedError
from heliosdb.transport.verification import rejected


def refused(reason: ErrorCode) -> NodeRefusedError:
    return NodeRefusedError("b", reason, "no", detail=None, hint=None)


@pytest.mark.parametrize(
    ("error", "breach"),
    [
        (rejected("its signature is not the node's"), Breach.UPDATE_REJECTED),
        (FederatedError(ErrorCode.UPDATE_REJECTED, "its weight is wrong"), Breach.UPDATE_REJECTED),
        (OversizedUpdateError(9.0, 1.0), None),
        (refused(ErrorCode.IDENTITY), Breach.COORDINATOR_REFUSED),
        (refused(ErrorCode.UPDATE_REJECTED), None),
        (refused(ErrorCode.BUDGET_EXHAUSTED), None),
        (refused(ErrorCode.PRIVILEGE), None),
        (StrangerError(ErrorCode.IDENTITY, "its certificate is another node's"), Breach.NODE_REFUSED),
        (FederatedError(ErrorCode.IDENTITY, "the certificate file is not PEM"), None),
        (FederatedError(ErrorCode.TIMEOUT, "late"), None),
        (UnsentError(ErrorCode.UNREACHABLE, "refused"), None),
    ],
)
def test_a_failure_is_a_breach_by_its_kind(error: FederatedError, breach: Breach | None) -> None:
    assert breach_of(error) is breach


@pytest.mark.parametrize(
    ("details", "breach"),
    [
        ("failed to connect to all addresses; CERTIFICATE_VERIFY_FAILED: self-signed certificate", Breach.NODE_REFUSED),
        ("failed to connect to all addresses; Hostname Verification Check failed.", Breach.NODE_REFUSED),
        ("CERTIFICATE_VERIFY_FAILED", Breach.NODE_REFUSED),
        ("failed to connect to all addresses; CERTIFICATE_VERIFY_FAILED: certificate has expired", None),
        ("failed to connect to all addresses; CERTIFICATE_VERIFY_FAILED: certificate is not yet valid", None),
        ("failed to connect to all addresses; Ssl handshake failed", None),
        ("Connection refused", None),
        ("Socket closed", None),
    ],
)  # fmt: skip
def test_a_peer_that_shows_anothers_certificate_is_one_and_a_clock_or_a_network_is_none(
    details: str, breach: Breach | None
) -> None:
    error = _unavailable("https://n:1", details)

    assert breach_of(error) is breach
    assert isinstance(error, UnsentError) is ("failed to connect" in details)
    assert isinstance(error, UnsentToStrangerError) is (breach is not None and "failed to connect" in details)


def test_a_certificate_that_has_expired_is_none() -> None:
    identity = Authority.create("authority").issue("n", ["n"])
    with pytest.raises(FederatedError) as caught:
        check_not_expired(identity.certificate_pem, 4e9)

    assert caught.value.code is ErrorCode.IDENTITY
    assert breach_of(caught.value) is None

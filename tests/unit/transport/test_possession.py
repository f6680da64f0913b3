"""A node proves at its greeting that it has the key of its certificate, for that greeting alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Greeting, Introduction
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.transport.authority import Authority
from heliosdb.transport.identity import Identity, fingerprint
from heliosdb.transport.possession import check_possession, new_challenge, statement

AUTHORITY = Authority.create("authority")
NODE, OTHER = (AUTHORITY.issue(name, ["localhost"]) for name in ("node", "other"))
GREETING = Greeting(WorkspaceName("w"), NodeName("north"), new_challenge())


def said(greeting: Greeting = GREETING, *, signs: Identity = NODE, names: Identity = NODE) -> Introduction:
    sha256 = bytes.fromhex(fingerprint(names.certificate_pem))
    return Introduction((), certificate_sha256=sha256, proof=signs.sign(statement(greeting, sha256)))


def test_a_proof_of_this_greeting_is_taken_and_changes_nothing_of_what_is_said() -> None:
    check_possession(GREETING, said(), NODE.certificate_pem, required=True)
    assert said() == replace(said(), proof=b"")


@pytest.mark.parametrize(
    "told",
    [
        said(replace(GREETING, challenge=new_challenge())),
        said(replace(GREETING, workspace=WorkspaceName("other"))),
        said(replace(GREETING, node=NodeName("south"))),
        # The same letters, cut elsewhere.
        said(replace(GREETING, workspace=WorkspaceName("wn"), node=NodeName("orth"))),
        said(signs=OTHER),
        said(names=OTHER),
        replace(said(), proof=b"nothing"),
        replace(said(), proof=b""),
    ],
    ids=["replayed", "workspace", "name", "cut", "key", "certificate", "noise", "none"],
)
def test_no_other_proof_is_taken_before_a_certificate_is_pinned(told: Introduction) -> None:
    with pytest.raises(FederatedError, match="has not proven that it has the key") as caught:
        check_possession(GREETING, told, NODE.certificate_pem, required=True)
    assert caught.value.code is ErrorCode.IDENTITY


def test_of_a_pinned_node_a_missing_proof_is_taken_and_a_wrong_one_is_not() -> None:
    check_possession(GREETING, replace(said(), proof=b""), NODE.certificate_pem, required=False)
    with pytest.raises(FederatedError):
        check_possession(GREETING, said(signs=OTHER), NODE.certificate_pem, required=False)

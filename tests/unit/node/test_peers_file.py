"""Which participants a node adds up with, by a file of its DBA's that may change or be missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.node.signatory import PeerSignatory
from heliosdb.transport.authority import Authority
from heliosdb.transport.identity import Identity


def test_a_file_that_is_named_has_to_be_there_when_the_node_starts(tmp_path: Path) -> None:
    def identity() -> Identity:
        raise AssertionError("nothing is signed here")

    path = tmp_path / "peers.pem"
    PeerSignatory(identity, None).check()
    with pytest.raises(FederatedError, match="No such file") as caught:
        PeerSignatory(identity, path).check()
    assert caught.value.code is ErrorCode.IDENTITY
    path.write_text("no certificate")
    with pytest.raises(FederatedError, match="no certificate in PEM form"):
        PeerSignatory(identity, path).check()
    path.write_bytes(Authority.create("an authority").issue("north", ["localhost"]).certificate_pem)
    PeerSignatory(identity, path).check()

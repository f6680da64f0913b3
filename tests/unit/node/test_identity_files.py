"""A node takes up new files of its certificate while it runs, and answers to the certificate that it had."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import cast

import pytest

from heliosdb.node.config import NodeConfig
from heliosdb.node.identity_files import NodeIdentityFiles
from heliosdb.transport.authority import Authority
from heliosdb.transport.identity import Identity, fingerprint

AUTHORITY = Authority.create("authority")
COORDINATOR = AUTHORITY.issue("coordinator", ["localhost"])


def issue(days: int = 365) -> Identity:
    return AUTHORITY.issue("node", ["localhost"], days=days)


def sha256(identity: Identity) -> bytes:
    return bytes.fromhex(fingerprint(identity.certificate_pem))


class Files:
    """What stands in for a node's settings: where its files are."""

    aggregator_certificate = None

    def __init__(self, directory: Path) -> None:
        self.certificate, self.private_key = directory / "node.pem", directory / "node.key"
        self.coordinator_certificate = directory / "coordinator.pem"
        self.coordinator_certificate.write_bytes(COORDINATOR.certificate_pem)

    def write(self, identity: Identity) -> None:
        """Replace certificate and key."""
        self.private_key.write_bytes(identity.private_key_pem)
        self.certificate.write_bytes(identity.certificate_pem)


def load(files: Files) -> NodeIdentityFiles:
    return NodeIdentityFiles(cast(NodeConfig, files))


def test_what_names_the_former_certificate_names_the_node_too(tmp_path: Path) -> None:
    files, old, new = Files(tmp_path), issue(), issue()
    files.write(old)
    held = load(files)
    assert held.certificate_sha256 == sha256(old)
    assert not held.is_ours(sha256(new))

    files.write(new)
    assert held.is_ours(sha256(new))
    assert held.is_ours(sha256(old))
    assert held.certificate_sha256 == sha256(new)
    assert not held.is_ours(sha256(issue()))
    assert not load(files).is_ours(sha256(old))


def test_half_of_a_new_pair_leaves_the_identity_as_it_was(tmp_path: Path) -> None:
    files, old, new = Files(tmp_path), issue(), issue()
    files.write(old)
    held = load(files)
    files.private_key.write_bytes(new.private_key_pem)
    assert held.certificate_sha256 == sha256(old)
    files.certificate.write_bytes(new.certificate_pem)
    assert held.certificate_sha256 == sha256(new)


async def test_its_own_and_the_coordinators_certificates_are_warned_of_before_they_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = Files(tmp_path)
    files.write(issue(days=9))
    soon = AUTHORITY.issue("coordinator", ["localhost"], days=5)
    files.coordinator_certificate.write_bytes(COORDINATOR.certificate_pem + soon.certificate_pem)
    with caplog.at_level(logging.WARNING):
        warning = asyncio.create_task(load(files).warn("this node"))
        await asyncio.sleep(0)
        warning.cancel()
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(" expires in ")[0] for line in said] == [
        "the certificate of this node",
        "the certificate of the coordinator",
    ]

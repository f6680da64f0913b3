"""Which certificate a node is pinned to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from heliosdb.catalog.nodes import NodeRecord, NodeStatus
from heliosdb.coordinator.certificates import check_not_expired, resolve_certificates
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.transport.authority import Authority
from heliosdb.transport.identity import expires

AUTHORITY = Authority.create("authority")
COORDINATOR = AUTHORITY.issue("coordinator", ["localhost"])
NODE, OTHER = (AUTHORITY.issue(name, ["localhost"]).certificate_pem for name in ("node", "other"))


def record(given: str | None, pinned: bytes | None = None) -> NodeRecord:
    return NodeRecord(
        id=1,
        name=NodeName("node"),
        workspace=WorkspaceName("w"),
        options="{}",
        endpoint="https://localhost:1",
        given_certificate=given,
        dataset=None,
        status=NodeStatus.PENDING,
        certificate=None if pinned is None else pinned.decode(),
    )


def resolve(given: str | None, pinned: bytes | None = None) -> tuple[bytes, ...]:
    return resolve_certificates(record(given, pinned), COORDINATOR, None)


def test_text_and_file_give_the_same_certificate(tmp_path: Path) -> None:
    path = tmp_path / "node.pem"
    path.write_bytes(NODE)

    assert resolve(NODE.decode()) == resolve(str(path)) == (NODE,)


def test_what_is_given_goes_before_what_was_pinned() -> None:
    assert resolve(NODE.decode(), OTHER) == (NODE,)
    assert resolve(None, OTHER) == (OTHER,)


def test_several_are_given_during_a_rotation_each_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "both.pem"
    path.write_bytes(NODE + OTHER + NODE)

    assert resolve((NODE + OTHER).decode()) == resolve(str(path)) == (NODE, OTHER)


def test_more_than_a_rotation_needs_are_refused() -> None:
    many = b"".join(AUTHORITY.issue(f"node{i}", ["localhost"]).certificate_pem for i in range(5))

    with pytest.raises(FederatedError, match="more than 4 certificates"):
        resolve(many.decode())


def test_without_either_an_unreachable_node_is_just_that() -> None:
    with pytest.raises(FederatedError) as caught:
        resolve(None)

    assert caught.value.code is ErrorCode.UNREACHABLE


def fifo(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    (path.parent / "real.pem").write_bytes(NODE)
    path.symlink_to(path.parent / "real.pem")


OFFERED = {
    "a file of something else": lambda path: path.write_text("hunter2"),
    "a file that only begins as one": lambda path: path.write_text("-----BEGIN CERTIFICATE-----\nhunter2\n"),
    "bytes": lambda path: path.write_bytes(b"\xff\xfehunter2"),
    "a file that is too large": lambda path: path.write_bytes(NODE + b"\n" * 65_536),
    "a symbolic link": link,
    "a FIFO": fifo,
    "a directory": lambda path: path.mkdir(),
    "nothing": lambda path: None,
}


@pytest.mark.parametrize("kind", OFFERED)
def test_what_is_no_certificate_file_is_refused_without_its_content(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "offered"
    OFFERED[kind](path)

    with pytest.raises(FederatedError) as caught:
        resolve(str(path))

    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert "hunter2" not in caught.value.message


def test_a_certificate_is_good_until_its_end() -> None:
    end = expires(NODE).timestamp()
    assert check_not_expired([NODE], end - 1) == (NODE,)

    with pytest.raises(FederatedError, match="expired"):
        check_not_expired([NODE], end)


def test_of_several_those_that_have_not_ended_are_pinned() -> None:
    lapsed = AUTHORITY.issue("old", ["localhost"], days=1).certificate_pem

    assert check_not_expired([lapsed, NODE], expires(lapsed).timestamp()) == (NODE,)

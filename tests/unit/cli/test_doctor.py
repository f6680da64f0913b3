"""What the doctor says of files, ports and settings, each as it is found; servers are examined in integration."""

from __future__ import annotations

import datetime as dt
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from heliosdb.catalog.server_state import ServerState
from heliosdb.cli.doctor.command import _confinement, examine, examine_config
from heliosdb.cli.doctor.files import (
    examine_certificates,
    examine_directory,
    examine_identity,
    examine_node_port,
    examine_peers,
    examine_pins,
    examine_port,
    examine_secret,
    examine_socket,
    examine_way,
)
from heliosdb.cli.doctor.findings import Finding, Mark, lines, warning
from heliosdb.cli.doctor.servers import _clock, _extension, _roles, _server
from heliosdb.transport.authority import Authority

STATE = ServerState(
    version_number=170002,
    version="17.2",
    is_replica=False,
    role="somebody",
    is_superuser=False,
    has_plpython=True,
    available="1.2",
    installed="1.2",
    extension_schema="public",
    schemas=["public"],
    roles=["federated_analyst"],
    is_encrypted=True,
    client_address="192.0.2.7",
    now=0.0,
)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("an authority")


@pytest.fixture
def identity(authority: Authority, tmp_path: Path) -> tuple[Path, Path]:
    made = authority.issue("node", ["localhost"])
    certificate, key = tmp_path / "node.pem", tmp_path / "node.key"
    certificate.write_bytes(made.certificate_pem)
    key.write_bytes(made.private_key_pem)
    key.chmod(0o600)
    return certificate, key


def marks(found: Iterator[Finding]) -> list[str]:
    return [one.mark.value for one in found]


def said(found: Iterator[Finding], mark: Mark) -> str:
    return "; ".join(f"{one.said} -> {one.remedy}" for one in found if one.mark is mark)


# Files.


def test_an_identity_that_fits_is_good(identity: tuple[Path, Path]) -> None:
    assert marks(examine_identity(*identity)) == ["good", "good", "good"]


def test_a_key_that_others_may_read_is_a_fault_and_its_group_a_warning(identity: tuple[Path, Path]) -> None:
    _, key = identity
    key.chmod(0o644)
    assert f"chmod 600 {key}" in said(examine_secret(key, "key"), Mark.FAULT)
    key.chmod(0o640)
    assert f"chmod 600 {key}" in said(examine_secret(key, "key"), Mark.WARNING)


def test_peers_are_at_least_two_others(
    authority: Authority, identity: tuple[Path, Path], tmp_path: Path
) -> None:
    certificate, _ = identity
    path = tmp_path / "peers.pem"
    assert f"{path}: No such file" in said(examine_peers(path, certificate), Mark.FAULT)
    others = [authority.issue(name, ["localhost"]).certificate_pem for name in ("north", "south")]
    path.write_bytes(certificate.read_bytes() + others[0])
    assert "names 1 participant but this one" in said(examine_peers(path, certificate), Mark.WARNING)
    path.write_bytes(b"".join(others))
    assert marks(examine_peers(path, certificate)) == ["good", "good"]


def test_a_key_of_another_certificate_and_files_that_are_not_there_are_faults(
    authority: Authority, identity: tuple[Path, Path], tmp_path: Path
) -> None:
    certificate, key = identity
    key.write_bytes(authority.issue("other", ["localhost"]).private_key_pem)
    assert "does not belong to the certificate" in said(examine_identity(certificate, key), Mark.FAULT)
    assert marks(examine_identity(tmp_path / "absent.pem", tmp_path / "absent.key")) == ["fault"] * 3
    key.write_text("no certificate")
    assert marks(examine_certificates(key, "certificate")) == ["fault"]


@pytest.mark.parametrize(("days", "mark"), [(-1, "fault"), (10, "warning"), (200, "good")])
def test_a_certificate_is_good_until_a_month_before_its_end(
    authority: Authority, tmp_path: Path, days: int, mark: str
) -> None:
    now = dt.datetime.now(dt.UTC)
    made = authority.issue(
        "node",
        ["localhost"],
        not_before=now - dt.timedelta(days=300),
        not_after=now + dt.timedelta(days=days),
    )
    path = tmp_path / "node.pem"
    path.write_bytes(made.certificate_pem)
    assert marks(examine_certificates(path, "certificate")) == [mark]


def test_an_authority_s_certificate_is_no_pin(authority: Authority, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.certificate_pem)
    assert "authority" in said(examine_pins(path, "coordinator_certificate"), Mark.FAULT)


def test_a_directory_is_the_daemon_s_alone_or_is_yet_to_be_made(tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert "is not there yet" in said(examine_directory(path, "state_directory"), Mark.WARNING)
    path.mkdir(mode=0o700)
    (path / "node.key").write_bytes(b"secret")
    (path / "node.key").chmod(0o644)
    assert "node.key is open to everybody" in said(examine_directory(path, "state_directory"), Mark.FAULT)
    (path / "node.key").chmod(0o600)
    assert marks(examine_directory(path, "state_directory")) == ["good", "good", "good"]
    path.chmod(0o755)
    assert "chmod 700" in said(examine_directory(path, "state_directory"), Mark.WARNING)
    assert "is no directory" in said(examine_directory(path / "node.key", "state_directory"), Mark.FAULT)


def test_a_port_is_free_answered_or_somebody_else_s(identity: tuple[Path, Path]) -> None:
    certificate, _ = identity
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert marks(examine_port("127.0.0.1", port)) == ["good"]
    assert "Start the daemon" in said(examine_port("127.0.0.1", port), Mark.WARNING)
    assert "Start the daemon" in said(examine_node_port("0.0.0.0", port, certificate), Mark.WARNING)
    assert marks(examine_port("127.0.0.1", 0)) == ["warning"]
    assert marks(examine_port("192.0.2.1", 1)) == ["fault"]


def test_a_way_is_open_where_one_address_answers_or_the_proxy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        open_port = listening.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as probe:
            closed = probe.getsockname()[1]
        addresses = [f"https://127.0.0.1:{closed}", f"https://127.0.0.1:{open_port}"]
        proxy = SecretStr(f"http://user:hidden@127.0.0.1:{closed}")
        assert marks(examine_way(addresses, None)) == ["good"]
        refused = said(examine_way(addresses, proxy), Mark.FAULT)
    assert f"port {closed} of 127.0.0.1" in said(examine_way(addresses[:1], None), Mark.FAULT)
    assert "hidden" not in refused


# Servers.


def test_a_socket_for_flower_is_closed_to_others_and_somebody_answers_there(tmp_path: Path) -> None:
    def marks(path: Path) -> list[Mark]:
        return [one.mark for one in examine_socket(path)]

    path = tmp_path / "sockets" / "n.sock"
    assert marks(path) == [Mark.FAULT]
    path.parent.mkdir(mode=0o755)
    assert marks(path) == [Mark.FAULT]
    path.parent.chmod(0o750)
    assert marks(path) == [Mark.WARNING]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert marks(path) == [Mark.GOOD]


def test_a_server_that_is_well_is_good() -> None:
    found = [*_server(STATE, "s"), *_extension(STATE, "s", pinned=False), *_roles(STATE, "s", None)]
    assert {one.mark for one in found} == {Mark.GOOD}


@pytest.mark.parametrize(
    ("changes", "mark", "words"),
    [
        ({"version_number": 130000}, Mark.FAULT, "too old"),
        ({"is_replica": True}, Mark.FAULT, "primary"),
        ({"is_encrypted": False}, Mark.WARNING, "sslmode=verify-full"),
        ({"has_plpython": False}, Mark.FAULT, "PL/Python"),
        ({"available": None, "installed": None}, Mark.FAULT, "make setup"),
        ({"installed": None}, Mark.FAULT, "CREATE EXTENSION heliosdb_federated_learning CASCADE"),
        ({"available": "1.3"}, Mark.WARNING, "ALTER EXTENSION heliosdb_federated_learning UPDATE"),
        ({"installed": "0.9", "available": "0.9"}, Mark.WARNING, "the same version"),
        ({"schemas": ["other"]}, Mark.WARNING, "search_path"),
        ({"roles": []}, Mark.WARNING, "GRANT federated_analyst"),
    ],
)
def test_what_is_wrong_with_a_server_is_said_with_its_remedy(
    changes: dict[str, object], mark: Mark, words: str
) -> None:
    state = ServerState(**{**{name: getattr(STATE, name) for name in STATE.__slots__}, **changes})
    found = [*_server(state, "s"), *_extension(state, "s", pinned=False), *_roles(state, "s", None)]
    assert words in said(iter(found), mark)


def test_a_daemon_s_role_has_what_it_needs_and_no_more() -> None:
    assert "GRANT federated_daemon TO somebody" in said(_roles(STATE, "s", "federated_daemon"), Mark.FAULT)


@pytest.mark.parametrize(("skew", "mark"), [(0.1, Mark.GOOD), (-3.0, Mark.WARNING), (90.0, Mark.FAULT)])
def test_clocks_may_differ_by_a_little(skew: float, mark: Mark) -> None:
    assert _clock(skew, "s").mark is mark


# Settings.


def test_settings_that_cannot_be_read_are_a_fault_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    assert marks(examine_config(path)) == ["fault"]
    path.write_text("reader = 'password=hidden")
    assert marks(examine_config(path)) == ["fault"]
    path.write_text("reader = 'password=hidden host'\n")
    (found,) = examine_config(path)
    assert found.mark is Mark.FAULT
    assert "hidden" not in found.said


def test_a_proxy_whose_server_is_away_is_at_fault(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    path.write_text(f"listen_port = 0\n[default_upstream]\nhost = '{tmp_path}'\nport = {port}\n")
    shown: list[str] = []
    assert not examine(path, "", shown.append, as_json=True)
    found = json.loads(shown[0])
    assert [one["mark"] for one in found] == ["good", "warning", "fault"]


def test_settings_of_an_api_are_examined_as_an_api_s(authority: Authority, tmp_path: Path) -> None:
    made = authority.issue("api", ["localhost"])
    (tmp_path / "api.pem").write_bytes(made.certificate_pem)
    (tmp_path / "api.key").write_bytes(made.private_key_pem)
    (tmp_path / "api.key").chmod(0o644)
    path = tmp_path / "api.toml"
    path.write_text(
        f"database = 'host={tmp_path} user=u'\ncertificate = '{tmp_path}/api.pem'\nlisten_port = 0\n"
        f"private_key = '{tmp_path}/api.key'\n"
    )
    found = list(examine_config(path))
    assert found[0].said == f"{path} holds an API's settings"
    assert [(one.about, one.mark.value) for one in found[1:]] == [
        ("private_key", "fault"),
        ("certificate", "good"),
        ("listen_port", "warning"),
        ("daemon", "warning"),
        ("database", "fault"),
    ]


def test_settings_with_a_password_are_nobody_else_s(tmp_path: Path) -> None:
    path = tmp_path / "coordinator.toml"
    path.write_text(
        f"database = 'host={tmp_path} user=u password=hidden'\ncertificate = '/absent'\nprivate_key = '/absent'\n"
        f"state_directory = '{tmp_path}/state'\n"
    )
    path.chmod(0o644)
    found = list(examine_config(path))
    assert f"chmod 600 {path}" in said(iter(found), Mark.FAULT)
    assert not any("hidden" in one.said + one.remedy for one in found)


def test_a_finding_is_a_line_and_its_remedy_one_below_without_control_characters() -> None:
    assert list(lines([warning("port\x1b", "is\nfree", "Start it.")])) == [
        "! port : is free",
        "    Start it.",
    ]


def test_what_a_training_process_is_left_is_said_also_where_nothing_is_confined() -> None:
    off, workers = _confinement("off", has_workers=False), _confinement("available", has_workers=True)
    assert (off.mark, workers.mark) == (Mark.WARNING, Mark.WARNING)
    assert "confinement = 'off'" in off.said
    assert "an engine's workers" in workers.said
    assert _confinement("required", has_workers=False).mark is Mark.GOOD

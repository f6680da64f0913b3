"""The systemd units are well formed, hardened, and fit the product."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main

from heliosdb.cli.main import app
from heliosdb.proxy.config import ProxyConfig
from heliosdb.proxy.reload import BACKLOG, SPARE_FILES

PACKAGING = Path(__file__).resolve().parents[3] / "packaging"
SERVICE, SOCKET = PACKAGING / "heliosdb-proxy.service", PACKAGING / "heliosdb-proxy.socket"

SERVICE_KEYS = {
    "Unit": {"Description", "After", "Wants"},
    "Install": {"WantedBy"},
    "Service": {
        *(
            "Type",
            "NotifyAccess",
            "WatchdogSec",
            "User",
            "Group",
            "ExecStart",
            "ExecReload",
            "Restart",
            "RestartSec",
        ),
        *("TimeoutStopSec", "LimitNOFILE", "RuntimeDirectory", "RuntimeDirectoryMode"),
        *("RuntimeDirectoryPreserve", "UMask", "NoNewPrivileges", "CapabilityBoundingSet"),
        *("AmbientCapabilities", "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices"),
        *("DevicePolicy", "ProtectClock", "ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs"),
        *("ProtectKernelModules", "ProtectKernelTunables", "ProtectProc", "ProcSubset"),
        *("RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID"),
        *("LockPersonality", "MemoryDenyWriteExecute", "RemoveIPC", "SystemCallArchitectures"),
        *("SystemCallFilter", "SystemCallErrorNumber"),
    },
}


def read(path: Path) -> configparser.ConfigParser:
    """Parse a unit that says each thing once; configparser refuses repeated keys."""
    parser = configparser.ConfigParser(interpolation=None, strict=True, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return parser


@pytest.fixture(scope="module")
def service() -> configparser.SectionProxy:
    return read(SERVICE)["Service"]


def test_the_service_has_exactly_the_settings_that_were_thought_about():
    unit = read(SERVICE)
    assert {name: set(unit[name]) for name in unit.sections()} == SERVICE_KEYS


def test_it_runs_a_command_that_exists(service):
    _program, command, option, settings = service["ExecStart"].split()
    known = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    assert option in [name for parameter in known.params for name in parameter.opts]
    assert settings == "/etc/heliosdb/proxy.toml"
    assert service["ExecReload"].split()[1:] == ["-HUP", "$MAINPID"]
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")


def test_it_leaves_time_to_stop_and_files_to_serve(service):
    defaults = ProxyConfig()
    assert int(service["TimeoutStopSec"]) > defaults.stop_timeout_s + defaults.close_timeout_s
    assert SPARE_FILES + 2 * BACKLOG == 2112
    assert int(service["LimitNOFILE"]) > 3 * defaults.max_connections + 2112


def test_no_privilege_is_left(service):
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == ""
    assert service["User"] not in ("", "root")
    assert (service["NoNewPrivileges"], service["ProtectSystem"]) == ("yes", "strict")


def test_the_socket_unit_listens_where_the_settings_would():
    lines = [line for line in SOCKET.read_text().splitlines() if line and not line.startswith(("#", "["))]
    pairs = [tuple(line.split("=", 1)) for line in lines]
    defaults = ProxyConfig()
    assert [value for key, value in pairs if key == "ListenStream"] == [
        f"{defaults.listen_address}:{defaults.listen_port}",
        f"/run/{read(SERVICE)['Service']['RuntimeDirectory']}/.s.PGSQL.{defaults.listen_port}",
    ]
    assert dict(pairs)["SocketMode"] == f"{defaults.unix_socket_mode:04o}"
    assert dict(pairs)["Backlog"] == str(BACKLOG)


def test_systemd_itself_has_nothing_to_say(tmp_path):
    """With a program that exists in place of one that is not installed here."""
    checker = shutil.which("systemd-analyze")
    if checker is None:  # then the tests above are what there is
        return
    for path in (SERVICE, SOCKET):
        (tmp_path / path.name).write_text(path.read_text().replace("/usr/bin/heliosdb", "/bin/true"))
    units = [str(tmp_path / path.name) for path in (SERVICE, SOCKET)]
    result = subprocess.run(
        [checker, "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    ours = [line for line in result.stderr.splitlines() if "heliosdb" in line]
    assert (result.returncode, ours) == (0, [])

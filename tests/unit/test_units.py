"""The systemd units fit the product: commands, settings and directories exist, and the daemons are watched."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import pytest
import typer.main

from heliosdb.cli.main import app
from heliosdb.coordinator.config import CoordinatorConfig
from heliosdb.node.config import NodeConfig

ROOT = Path(__file__).resolve().parents[2]
KINDS = ["coordinator", "node", "proxy", "api"]


def unit(kind: str) -> dict[str, list[str]]:
    """The values of a unit's keys."""
    values = defaultdict(list)
    for line in (ROOT / f"packaging/heliosdb-{kind}.service").read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            values[name].append(value)
    return values


@pytest.mark.parametrize("kind", KINDS)
def test_systemd_hears_that_a_daemon_serves_and_is_alive_and_from_itself_only(kind: str) -> None:
    values = unit(kind)
    assert values["Type"] == ["notify"]
    assert values["NotifyAccess"] == ["main"]
    assert 0 < int(values["WatchdogSec"][0]) <= 60
    assert values["Restart"] == ["on-failure"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_exists(kind: str) -> None:
    [command] = unit(kind)["ExecStart"]
    program, name, option, settings = command.split()
    assert (program, name, settings) == ("/usr/bin/heliosdb", kind, f"/etc/heliosdb/{kind}.toml")
    known = cast(Any, typer.main.get_command(app)).commands[name]
    assert option in {each for parameter in known.params for each in parameter.opts}


@pytest.mark.parametrize("kind", KINDS)
def test_a_daemon_has_no_rights_and_writes_to_its_directories_only(kind: str) -> None:
    values = unit(kind)
    assert values["User"] == ["heliosdb"]
    assert values["NoNewPrivileges"] == ["yes"]
    assert values["CapabilityBoundingSet"] == [""]
    assert values["ProtectSystem"] == ["strict"]


@pytest.mark.parametrize(("kind", "config"), [("coordinator", CoordinatorConfig), ("node", NodeConfig)])
def test_the_settings_that_a_unit_asks_for_are_settings_and_name_its_directories(
    kind: str, config: type[CoordinatorConfig] | type[NodeConfig]
) -> None:
    text = (ROOT / f"packaging/heliosdb-{kind}.service").read_text()
    asked = dict(re.findall(r'(\w+) = "([^"]+)"', text.partition("[Unit]")[0]))
    assert set(asked) == {"state_directory", "health_socket"}
    assert set(asked) <= set(config.model_fields)
    values = unit(kind)
    assert asked["state_directory"] == f"/var/lib/{values['StateDirectory'][0]}"
    assert Path(asked["health_socket"]).parent == Path("/run", values["RuntimeDirectory"][0])


def test_a_node_may_hold_what_its_training_process_may_take() -> None:
    [memory] = unit("node")["MemoryMax"]
    assert NodeConfig.model_fields["max_memory_gb"].default < int(memory.rstrip("G"))


def test_a_coordinator_may_wait_for_its_database() -> None:
    assert unit("coordinator")["TimeoutStartSec"] == ["infinity"]


def test_systemd_itself_has_nothing_to_say(tmp_path: Path) -> None:
    checker = shutil.which("systemd-analyze")
    if checker is None:  # then the tests above are what there is
        return
    units = []
    for kind in KINDS:
        text = (ROOT / f"packaging/heliosdb-{kind}.service").read_text()
        units.append(tmp_path / f"heliosdb-{kind}.service")
        # With a program that exists in place of one that is not installed here.
        units[-1].write_text(text.replace("/usr/bin/heliosdb", "/bin/true"))
    result = subprocess.run(
        [checker, "verify", "--man=no", *map(str, units)], capture_output=True, text=True, check=False
    )
    ours = [line for line in result.stderr.splitlines() if "heliosdb" in line]
    assert (result.returncode, ours) == (0, [])


def test_all_daemons_are_confined_alike() -> None:
    """But for the proxy, which needs less: it starts no process that could be kept from its memory or from /proc."""
    kinds = {kind: unit(kind) for kind in KINDS}
    names = [
        name for name in kinds["proxy"] if re.match("No|Cap|Amb|Pro|Pri|Dev|Res|Loc|Mem|Rem|Sys|UMask", name)
    ]
    shared = {
        name
        for name in names
        if name not in ("Restart", "RestartSec", "ProcSubset", "MemoryDenyWriteExecute")
    }
    assert len(shared) >= 24
    for name in shared:
        assert len({tuple(values[name]) for values in kinds.values()}) == 1, name

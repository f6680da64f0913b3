"""docs/proxy.md says what the settings and commands are."""

from __future__ import annotations

import re
from pathlib import Path

from heliosdb.proxy.admin import COMMANDS, shown
from heliosdb.proxy.cancel import MAX_SEEKING
from heliosdb.proxy.config import FIXED, ProxyConfig, load_config
from heliosdb.proxy.process import TAKEOVER_S
from heliosdb.proxy.reload import BACKLOG, SPARE_FILES
from heliosdb.proxy.server import MAX_GUESTS
from heliosdb.proxy.session import MAX_TEXT_MESSAGE
from heliosdb.proxy.wire import MAX_STARTUP_LENGTH

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "proxy.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_every_setting_is_there_with_its_default_and_whether_a_reload_changes_it():
    told = {name: (default, reload) for name, default, reload, meaning in rows("Settings") if meaning}
    defaults = ProxyConfig()
    assert told == {
        name: (shown(name, defaults) or "", "" if name in FIXED else "✓") for name in ProxyConfig.model_fields
    }


def test_every_command_is_there():
    assert [command for command, gives in rows("Administration") if gives] == list(COMMANDS)


def test_the_example_is_a_settings_file(tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
    path = tmp_path / "proxy.toml"
    path.write_text(example)
    config = load_config(path)
    assert config.tls_required
    assert config.upstream_for("sales").port == 5433


def test_the_limits_are_those_of_the_code():
    limits = section("Limits")
    assert MAX_GUESTS == 8
    assert "Eight clients" in limits
    assert f"{MAX_STARTUP_LENGTH:,} bytes" in limits
    assert f"{BACKLOG:,} more" in limits
    assert f"and {SPARE_FILES}." in limits
    assert f"{MAX_TEXT_MESSAGE >> 20} MiB" in limits
    assert f"{MAX_SEEKING} such connections" in section("Restart")
    assert f"within {TAKEOVER_S:.0f} s" in section("Restart")

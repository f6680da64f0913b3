"""What the proxy's operator sees: its metrics, and its log as JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import psycopg
import pytest

from tests.integration.proxy.proxy_harness import eventually
from tests.integration.proxy.proxy_process import COMMAND, is_running
from tests.support.ports import free_port
from tests.support.scrapes import scrape

FEDERATED = "CREATE FEDERATED WORKSPACE w WITH (min_nodes = 3)"


def test_what_passes_is_counted_and_a_successor_goes_on(launch) -> None:
    port = free_port()
    proxy = launch.start(f'metrics = "127.0.0.1:{port}"\nlog_format = "json"\n')
    with proxy.connect() as connection:
        connection.execute("SELECT 1")
        connection.execute(FEDERATED)
        connection.execute(FEDERATED)
        with pytest.raises(psycopg.errors.Error):
            connection.execute("SELECT federated_predict('no_such_model', age => 55)")
        open_now = scrape(port)
    eventually(lambda: scrape(port)["heliosdb_proxy_sessions"] == 0, "the session has ended")
    found = scrape(port)

    assert open_now['heliosdb_ready{daemon="proxy"}'] == open_now["heliosdb_proxy_sessions"] == 1
    assert found["heliosdb_proxy_sessions_total"] == 1
    assert found["heliosdb_proxy_requests_total"] >= open_now["heliosdb_proxy_requests_total"] >= 4
    assert found['heliosdb_proxy_statements_total{kind="federated"}'] == 2
    assert found['heliosdb_proxy_statements_total{kind="predict"}'] == 1
    assert sum(value for name, value in found.items() if "statement_errors_total" in name) == 1
    assert found["heliosdb_proxy_rewriting_duration_seconds_count"] == 2
    assert found["heliosdb_proxy_rewriting_cache_hits_total"] >= 1
    assert found["heliosdb_proxy_received_bytes_total"] > 0
    assert found['heliosdb_proxy_connection_errors_total{reason="refused"}'] == 0
    assert all(json.loads(line)["level"] for line in proxy.log.read_text().splitlines())

    os.kill(proxy.process.pid, signal.SIGUSR2)
    successor = int(proxy.manager.hear("MAINPID"))
    launch.successors.append(successor)
    eventually(lambda: not is_running(proxy.process.pid), "the old process has ended")
    eventually(lambda: shown_by_successor(port), "the successor shows metrics")


def shown_by_successor(port: int) -> bool:
    try:
        return scrape(port)["heliosdb_proxy_sessions_total"] == 0
    except OSError:
        return False


def test_an_address_that_is_taken_ends_it_with_one_error(launch) -> None:
    port = free_port()
    first = launch.start(f'metrics = "127.0.0.1:{port}"\n')
    settings = first.directory / "second.toml"
    settings.write_text(f'listen_port = {free_port()}\nmetrics = "127.0.0.1:{port}"\n')
    ended = subprocess.run(
        [*COMMAND, str(settings)], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode != 0
    assert f"metrics cannot be served at 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr

"""The training process writes its log as the daemon does."""

from __future__ import annotations

import subprocess
import sys

import pytest

from heliosdb.node.trainer import _environment
from heliosdb.node.worker import LOG_FORMAT


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_training_process_is_told_the_format(log_format: str) -> None:
    assert _environment(1, log_format)[LOG_FORMAT] == log_format


@pytest.mark.parametrize(("log_format", "formatter"), [("text", "Formatter"), ("json", "JsonFormatter")])
def test_it_writes_its_log_so(log_format: str, formatter: str) -> None:
    # Without a frame to answer it ends with its stdin; what it set up is looked at where it would wait.
    program = (
        "import logging\nfrom heliosdb.node import training_process, worker\n"
        "def look(_modules):\n"
        "    print(type(logging.getLogger().handlers[0].formatter).__name__, flush=True)\n"
        "    raise SystemExit(0)\n"
        "worker.load_parts = look\ntraining_process.main(None, ())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=_environment(1, log_format),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert formatter in ended.stderr.split()

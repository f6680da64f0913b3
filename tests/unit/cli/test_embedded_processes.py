"""Marks of processes, and ending exactly those that were recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from heliosdb.cli.embedded.processes import (
    ProcessMark,
    end_group,
    is_alive,
    mark_of,
    read_marks,
    write_marks,
)

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"
PARENT = (
    "import subprocess, sys, time\n"
    f"child = subprocess.Popen([sys.executable, '-c', {DEAF!r}], stdout=subprocess.PIPE)\n"
    "child.stdout.readline()\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(600)\n"
)


def start(script: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def mark(pid: int) -> ProcessMark:
    found = mark_of(pid)
    assert found is not None
    return found


def test_a_process_has_one_mark_for_its_whole_life() -> None:
    assert mark(os.getpid()) == mark(os.getpid())
    assert is_alive(mark(os.getpid()))


def test_a_recorded_process_is_ended() -> None:
    process, _ = start(SLEEPER)
    end_group(mark(process.pid))
    assert process.wait(10) == -15


def test_a_process_that_ignores_the_polite_signal_is_killed() -> None:
    process, _ = start(DEAF)
    end_group(mark(process.pid), grace=0.1)
    assert process.wait(10) == -9


def test_the_children_of_a_process_end_with_it_even_if_they_ignore_the_polite_signal() -> None:
    process, child = start(PARENT)
    child_mark = mark(int(child))
    end_group(mark(process.pid))
    process.wait(10)
    # Killed, the orphan waits for init to reap it, which mark_of does not count as alive.
    for _ in range(1000):
        if not is_alive(child_mark):
            break
        os.sched_yield()
    assert not is_alive(child_mark)


def test_a_stranger_with_a_recorded_number_is_left_alone() -> None:
    process, _ = start(SLEEPER)
    try:
        stale = replace(mark(process.pid), started="another boot 1")
        assert not is_alive(stale)
        end_group(stale)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait(10)


def test_an_ended_process_that_nobody_has_reaped_is_not_alive() -> None:
    process, _ = start("print('done', flush=True)")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert mark_of(process.pid) is None
    process.wait(10)


def test_marks_are_read_back_as_written(tmp_path: Path) -> None:
    marks = {"node_1": ProcessMark(17, "boot 4711"), "proxy": ProcessMark(18, "boot 4712")}
    write_marks(tmp_path / "processes.json", marks)
    assert read_marks(tmp_path / "processes.json") == marks


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"a": {"pid": 1}}'])
def test_a_record_that_is_not_whole_names_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "processes.json").write_text(content)
    assert read_marks(tmp_path / "processes.json") == {}
    assert read_marks(tmp_path / "absent.json") == {}

"""What is read from the peers' logs, and what their parameters are held to."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.beside import flower, nvflare
from benchmarks.beside.processes import Processes, environment
from benchmarks.beside.work import Unavailable, average, seconds_per_round

FLOWER = """\
1796077326.159393 Starting FedAvg strategy:
1796077326.159447 \t├── Number of rounds: 3
1796077326.159903 [ROUND 1/3]
1796077326.279865 configure_train: Sampled 3 nodes (out of 3)
1796077339.868199 [ROUND 2/3]
1796077339.891729 configure_train: Sampled 3 nodes (out of 3)
1796077352.851585 [ROUND 3/3]
1796077369.140000 Strategy execution finished in 42.98s
"""
NVFLARE = r"""
{"asctime": "2026-11-30 22:34:46,949", "name": "FedAvg", "levelname": "INFO", "message": "\n----\n      Round 0 started.      \n----\n"}
{"asctime": "2026-11-30 22:34:46,950", "name": "FedAvg", "levelname": "INFO", "message": "Sampled clients: ['node-1']"}
{"asctime": "2026-11-30 22:34:48,000", "name": "other", "levelname": "INFO", "message": "Round 0 started."}
{"asctime": "2026-11-30 22:34:49,813", "name": "FedAvg", "levelname": "INFO", "message": "\n----\n      Round 1 started.      \n----\n"}
{"asctime": "2026-11-30 22:34:51,000", "name": "FedAvg", "levelname": "INFO", "message": "\n====\n      Finished FedAvg.      \n====\n"}
""".lstrip()


def test_rounds_of_flower_begin_where_its_log_says() -> None:
    assert flower.read_starts(FLOWER) == (1796077326.159903, 1796077339.868199, 1796077352.851585)


def test_rounds_of_nvflare_begin_where_its_log_says() -> None:
    first, second = nvflare.read_starts(NVFLARE)
    assert second - first == pytest.approx(2.864, abs=1e-6)


def test_the_first_round_is_left_out_of_the_median() -> None:
    assert seconds_per_round((0.0, 100.0, 101.0, 103.0, 103.5)) == 1.0


def test_two_rounds_say_nothing_of_a_round_that_is_not_the_first() -> None:
    with pytest.raises(ValueError, match="three rounds at least are needed, 2 began"):
        seconds_per_round((0.0, 1.0))


def test_a_round_is_a_step_at_each_node_and_the_mean_by_rows() -> None:
    one = (np.array([[2.0, 1.0]]), np.array([1.0]))
    three = (np.array([[0.0, 1.0]] * 3), np.array([0.0] * 3))
    # From zeros each chance is 1/2: the steps are 0.1 (1, 0.5) and 0.1 (0, -0.5).
    assert average([one, three], 1, 0.1) == pytest.approx([0.025, -0.025])
    inputs = np.concatenate([one[0], three[0]])
    targets = np.concatenate([one[1], three[1]])
    assert average([one, three], 7, 0.1) != pytest.approx(average([(inputs, targets)], 1, 0.1))


def test_what_cannot_be_installed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmarks.beside.processes.ENVIRONMENTS", tmp_path)
    monkeypatch.setattr("benchmarks.beside.processes.sys.executable", "/bin/false")
    with pytest.raises(Unavailable, match=r"flwr 1\.42\.0 could not be installed: no reason was given"):
        environment("flwr", "1.42.0")


def test_processes_that_others_left_behind_end_with_the_block(tmp_path: Path) -> None:
    waits = "import signal; signal.pause()"
    leaves = "import os, subprocess, sys; print(subprocess.Popen([sys.executable, '-c', sys.argv[1]],"
    leaves += " start_new_session=True).pid, flush=True); os._exit(0)"
    with Processes(Path(sys.executable).parent, tmp_path, {}) as processes:
        left = int(processes.finish("parent", [sys.executable, "-c", leaves, waits]))
        assert _runs(left)
    assert not _runs(left)


def _runs(process: int) -> bool:
    """Whether it is there, and not only because nobody has asked how it ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_one_that_fails_says_how(tmp_path: Path) -> None:
    with (
        Processes(Path(sys.executable).parent, tmp_path, {}) as processes,
        pytest.raises(RuntimeError, match=r"(?s)broken failed: .*no such luck"),
    ):
        processes.finish("broken", [sys.executable, "-c", "raise SystemExit('no such luck')"])


def test_one_that_should_serve_and_ends_is_noticed(tmp_path: Path) -> None:
    with (
        Processes(Path(sys.executable).parent, tmp_path, {}) as processes,
        pytest.raises(RuntimeError, match=r"(?s)server ended: .*bad luck"),
    ):
        processes.start("server", [sys.executable, "-c", "raise SystemExit('bad luck')"]).wait()
        processes.listening(1)

"""What every benchmark does alike: repeat, take the median, print a table, write build/bench/<name>.json."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parent.parent / "build" / "bench"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a benchmark's table; `target` says what was asked for, empty where nothing was."""

    name: str
    value: float
    unit: str
    target: str = ""


def median_seconds(action: Callable[[], object], repetitions: int) -> float:
    """Run `action` once to warm up, then `repetitions` times; return the median of its wall times."""
    action()
    times = []
    for _ in range(repetitions):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def read_figures(name: str) -> list[Figure]:
    """Return what build/bench/<name>.json has, of the last call of `publish` or `keep`; [] where there is none."""
    path = DIRECTORY / f"{name}.json"
    return [Figure(**one) for one in json.loads(path.read_text())["figures"]] if path.exists() else []


def keep(name: str, figures: list[Figure]) -> None:
    """Write down what there is so far: what ends the benchmark does not take it along."""
    with contextlib.redirect_stdout(None):
        publish(name, figures)


def publish(name: str, figures: list[Figure]) -> None:
    """Print the table and write it as JSON."""
    width = max(len(figure.name) for figure in figures)
    print(f"{'figure':<{width}}  {'value':>12}  unit   target")
    for figure in figures:
        print(f"{figure.name:<{width}}  {figure.value:>12.4g}  {figure.unit:<5}  {figure.target}")
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    path = DIRECTORY / f"{name}.json"
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    path.write_text(
        json.dumps({"machine": machine, "figures": [asdict(f) for f in figures]}, indent=2) + "\n"
    )
    print(f"\nwritten to {path.relative_to(DIRECTORY.parent.parent)}")

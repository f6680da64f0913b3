"""A process is held to memory and cores by the kernel, and to less where a request says less."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

_LESS = """
import json, os, resource, sys
import numpy as np
from heliosdb.node.allowance import Allowance, Holder, held_memory
from heliosdb.node.confinement import set_limits

def fits(count):
    try:
        np.zeros(count, dtype=np.uint8)
    except MemoryError:
        return False
    return True

set_limits(2**29)
holder, found = Holder(), {}
found["whole"] = fits(2**28)
holder.hold(Allowance(2**28, 1))
found["less"], found["cores"] = fits(2**28), len(os.sched_getaffinity(0))
threads = os.listdir("/proc/self/task")
found["threads"] = {len(os.sched_getaffinity(int(one))) for one in threads} == {1} and len(threads) > 1
holder.hold(Allowance(2**40, 10_000))
found["again"], found["more"], found["all"] = fits(2**28), fits(2**30), len(os.sched_getaffinity(0))
found["held"] = 0 < held_memory() < 2**29
print(json.dumps(found))
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core alone")
def test_a_process_is_held_to_an_allowance_and_never_above_what_it_was_started_with() -> None:
    made = subprocess.run(
        [sys.executable, "-c", "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n" + _LESS],
        check=True, capture_output=True, timeout=120, env={**os.environ, "OPENBLAS_NUM_THREADS": "2"},
    )  # fmt: skip
    found = json.loads(made.stdout)
    assert found == {
        "whole": True, "less": False, "cores": 1, "threads": True, "again": True, "more": False,
        "all": len(os.sched_getaffinity(0)), "held": True,
    }  # fmt: skip

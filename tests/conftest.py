"""Fixtures that all tests share: one server per test process, databases by template."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.cluster import Cluster, prepared_cluster
from tests.support.places import use_scratch

# Test processes share the processor: threads of numerical libraries would wait for each other, spinning. Read when the
# libraries are imported, here, in daemons and in servers, so it is set before any test module imports one.
for _threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

use_scratch()

# Where an environment forbids bytecode (images of containers do), every daemon, command and test process would compile
# all of ours anew: the time of a start three times over.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# How long an example takes is the machine's business: a busy one is no failure.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is collected stays until the end, and is much: no collection of garbage need look for any in it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
    gc.freeze()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running server with the extension's roles and login roles for daemons; see `Cluster.warm`."""
    with prepared_cluster(warm=True) as running:
        yield running


@pytest.fixture
def federated_database(cluster: Cluster) -> Iterator[str]:
    """The name of a fresh database with the extension; it goes with the test, before its pages reach a disk."""
    name = cluster.create_database("federated_template")
    yield name
    cluster.drop_database(name)


@pytest.fixture
def forked_training() -> Iterator[None]:
    """Nodes of this process have training processes that are forked: each would take half a second of imports."""
    from tests.support.training import forked_workers

    with forked_workers():
        yield

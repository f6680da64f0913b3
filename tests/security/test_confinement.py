"""A training process that was taken over: what it can reach of the machine that it runs on."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest

from heliosdb.catalog.failures import ToldError
from heliosdb.node.confinement import (
    CONFINEMENT,
    SCRATCH,
    UNCONFINED,
    WITH_WORKERS,
    Confinement,
    confine,
    foresee,
    strictest,
)
from heliosdb.node.reader_calls import READERS, name_of_reader
from heliosdb.node.reader_process import start_reader_process
from tests.support.escaping import LEFT_OPEN, SECRET, SERVER
from tests.support.images import as_dicom, as_file, grey

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-P", "-m", "heliosdb.node.training_process", "0")


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Of a training process that can find its code and what it is to look for."""
    secret, server, scratch = tmp_path / "keys" / "node.key", tmp_path / "server", tmp_path / "scratch"
    secret.parent.mkdir()
    secret.write_text("secret")
    scratch.mkdir()
    with ExitStack() as stack:
        ports = [stack.enter_context(socket.socket(family)) for family in (socket.AF_INET, socket.AF_INET6)]
        ports[0].bind(("127.0.0.1", 0))
        port = ports[0].getsockname()[1]
        ports[1].bind(("::1", port))
        for name in (str(server), f"\0{server}"):
            line = stack.enter_context(socket.socket(socket.AF_UNIX))
            line.bind(name)
            ports.append(line)
        for one in ports:
            one.listen()
        yield {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "OPENBLAS_NUM_THREADS": "2",
            SCRATCH: str(scratch),
            SECRET: str(secret),
            SERVER: str(server),
            LEFT_OPEN: str(port),
        }


def escapes(environment: dict[str, str]) -> tuple[Confinement, list[dict[str, bool]]]:
    """What is said to be in force, and what its main thread and another one could do."""
    with subprocess.Popen(
        [*COMMAND, "tests.support.escaping"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        in_force = _first_frame(process.stdout)
        _, errors = process.communicate(timeout=120)
    told = [json.loads(line) for line in errors.splitlines() if line.startswith(b"{")]
    assert len(told) == 2
    return in_force, told


def _first_frame(stream: IO[bytes]) -> Confinement:
    count, size = struct.unpack("<IQ", stream.read(12))
    assert count == 1
    return Confinement.from_json(stream.read(size))


def test_a_training_process_reaches_nothing_beyond_its_code_and_its_pipes(
    environment: dict[str, str],
) -> None:
    in_force, (main, thread) = escapes(environment)

    assert in_force.is_whole, in_force
    assert not [name for name, done in main.items() if done]
    assert not [name for name, done in thread.items() if done]
    assert Path(environment[SECRET]).read_text() == "secret"


def test_what_is_tried_can_be_done_by_a_process_that_is_not_confined(environment: dict[str, str]) -> None:
    in_force, (main, _) = escapes({**environment, CONFINEMENT: "off"})

    assert not in_force.is_whole
    (ROOT / "tests/support/escaping.written").unlink()
    for name in (
        "read a file",
        "a Unix socket",
        "an abstract socket",
        "TCP",
        "a program",
        "read accounts",
        "netlink",
        "the daemon's scheduling",
        "the daemon's scheduling parameters",
        "the daemon's turn at disks",
        "the daemon's pages",
    ):
        assert main[name], name


DECODES = """
import sys
from heliosdb.node.confinement import confine
confine(None)
from heliosdb.scoring.images import decode_image, load_libraries
load_libraries()
for line in sys.stdin:
    print(decode_image(bytes.fromhex(line), (1, 5, 7)).size)
"""


def test_images_are_decoded_by_a_process_that_is_confined_before_it_has_what_decodes_them() -> None:
    files = [as_file(grey(5, 7), kind) for kind in ("PNG", "JPEG", "TIFF")] + [as_dicom(grey(5, 7))]
    given = "".join(f"{one.hex()}\n" for one in files)
    command = [sys.executable, "-P", "-c", DECODES]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["35"] * 4, done.stderr


def test_the_process_that_reads_is_gone_with_the_training_process(environment: dict[str, str]) -> None:
    with subprocess.Popen(COMMAND, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        _first_frame(process.stdout)
        (reader,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        watched = os.pidfd_open(int(reader))
        process.kill()
    with ExitStack() as stack:
        stack.callback(os.close, watched)
        assert select.select([watched], [], [], 60)[0]


def test_the_process_that_reads_connects_as_the_nodes_settings_say_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.5)
        elsewhere = f"host=127.0.0.1 port={server.getsockname()[1]} user=stolen connect_timeout=2"
        monkeypatch.setenv(READERS, name_of_reader("host=/nowhere user=reader"))
        reader = start_reader_process()

        with pytest.raises(ToldError) as refused, reader.open_rows(elsewhere):
            pass
        with pytest.raises(ToldError) as away, reader.open_rows("host=/nowhere user=reader"):
            pass
        assert refused.value.is_lost
        assert away.value.is_lost
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_machine_without_landlock_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of a child: what is confined stays so.
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr("heliosdb.node.confinement._LANDLOCK_CREATE_RULESET", 100_000)
        monkeypatch.setattr("heliosdb.node.confinement._SECCOMP_LIBRARY", "libnone.so")
        os.write(writes, confine(None).to_json())
        os._exit(0)
    os.close(writes)
    os.waitpid(pid, 0)
    with os.fdopen(reads, "rb") as told:
        found = Confinement.from_json(told.read())

    assert not found.is_whole
    assert found == Confinement(
        why="Landlock: Function not implemented; seccomp: libnone.so is not installed"
    )
    assert str(found).startswith("all files, sockets and programs; Landlock")


def test_what_will_be_in_force_follows_from_a_nodes_settings() -> None:
    assert foresee("off", has_workers=False) == UNCONFINED
    assert foresee("available", has_workers=True) == WITH_WORKERS
    assert foresee("available", has_workers=False).is_whole


def test_nodes_that_share_a_process_have_the_strictest_confinement() -> None:
    assert strictest(["off", "available"]) == "available"
    assert strictest(["required", "off"]) == "required"

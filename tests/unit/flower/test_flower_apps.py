"""The two apps that Flower runs, without Flower: what they do with a socket, and with what Flower gives them."""

from __future__ import annotations

import importlib
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from heliosdb.transport import limits, relay_lines

APP = Path(__file__).parents[3] / "flower"
_LENGTH = struct.Struct("!Q")
MODULES = ("carrying", "client_app", "server_app")


class ConfigRecord(dict[str, Any]):
    """As Flower's."""


class RecordDict(dict[str, Any]):
    """As Flower's."""


class App:
    """As Flower's: what is decorated stays what it is."""

    def query(self) -> Any:
        """As Flower's."""
        return lambda function: function

    main = query


class Message:
    """As Flower's."""

    def __init__(
        self, content: Any, dst_node_id: int = 0, message_type: str = "", reply_to: Any = None
    ) -> None:
        self.content, self.dst_node_id, self.message_type = content, dst_node_id, message_type
        self.metadata = SimpleNamespace(reply_to_message_id=reply_to)
        self.error: Any = None

    def has_error(self) -> bool:
        """As Flower's."""
        return self.error is not None


@pytest.fixture
def apps(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Our modules, over stand-ins for what they import of Flower."""
    kinds = {"ConfigRecord": ConfigRecord, "RecordDict": RecordDict, "Message": Message, "Context": object}
    modules: dict[str, dict[str, Any]] = {
        "flwr": {},
        "flwr.app": kinds | {"MessageType": SimpleNamespace(QUERY="query")},
        "flwr.clientapp": {"ClientApp": App},
        "flwr.serverapp": {"ServerApp": App, "Grid": object},
        "flwr.common": {},
        "flwr.common.logger": {"log": lambda *_: None},
    }
    for name, members in modules.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(str(APP))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, f"heliosdb_flower.{name}", raising=False)
    found = {name: importlib.import_module(f"heliosdb_flower.{name}") for name in MODULES}
    for name in MODULES:
        monkeypatch.delitem(sys.modules, f"heliosdb_flower.{name}")
    return SimpleNamespace(**found)


@dataclass
class Grid:
    """Where messages go, as Flower's; each has an answer once one is given."""

    nodes: list[int] = field(default_factory=lambda: [7, 2**64 - 1])
    pushed: list[Message] = field(default_factory=list)
    replies: list[Message] = field(default_factory=list)
    accepts: bool = True

    def get_node_ids(self) -> list[int]:
        """As Flower's."""
        return self.nodes

    def push_messages(self, messages: list[Message]) -> list[str | None]:
        """As Flower's."""
        self.pushed += messages
        return [str(len(self.pushed)) if self.accepts else None for _ in messages]

    def pull_messages(self, _: list[str]) -> list[Message]:
        """As Flower's."""
        pulled, self.replies = self.replies, []
        return pulled


@dataclass
class Served:
    """A carriage, and the daemon's end of its connection."""

    carriage: Any
    grid: Grid
    daemon: socket.socket

    def turn(self) -> None:
        """One turn of its loop."""
        self.carriage._tell_places()
        self.carriage._send()
        self.carriage._fetch()

    def say(self, blob: bytes) -> None:
        """What the daemon writes."""
        self.daemon.sendall(_LENGTH.pack(len(blob)) + blob)
        self.carriage.taken.put(blob)

    def heard(self) -> relay_lines.Frame:
        """What the daemon reads."""
        (length,) = _LENGTH.unpack(self.daemon.recv(_LENGTH.size, socket.MSG_WAITALL))
        return relay_lines.read_frame(self.daemon.recv(length, socket.MSG_WAITALL))


@pytest.fixture
def served(apps: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A carriage that has told its places."""
    monkeypatch.setattr(apps.server_app, "_TICK_SECONDS", 0.01)
    daemon, app = socket.socketpair()
    daemon.settimeout(60)
    with daemon, app:
        grid = Grid()
        made = Served(apps.server_app.Carriage(grid, app, 60.0), grid, daemon)
        made.turn()
        assert made.heard() == relay_lines.Places(frozenset({7, 2**64 - 1}))
        yield made


def test_a_batch_may_be_as_large_as_the_daemons_take_it(apps: SimpleNamespace) -> None:
    assert apps.carrying.MAX_BATCH_BYTES == limits.MAX_BATCH_BYTES


def test_an_answer_that_is_larger_than_a_batch_is_lost_and_nothing_else(
    served: Served, apps: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon would leave the connection over it, and with it the sessions of all nodes."""
    served.say(relay_lines.batch_frame(7, b"ask"))
    served.turn()
    large = apps.carrying.to_records(bytes(100))
    monkeypatch.setattr(apps.carrying, "MAX_BATCH_BYTES", 99)
    served.grid.replies.append(Message(large, reply_to="1"))
    served.turn()
    assert served.heard() == relay_lines.Lost(7)


@pytest.mark.parametrize("length", [0, 1, 4 * 1024 * 1024, 9 * 1024 * 1024])
def test_a_blob_comes_out_of_records_as_it_went_in(apps: SimpleNamespace, length: int) -> None:
    blob = bytes(range(251)) * (length // 251 + 1)
    records = apps.carrying.to_records(blob[:length])
    assert apps.carrying.from_records(records) == blob[:length]
    assert all(len(record["part"]) <= 4 * 1024 * 1024 for record in records.values())


@pytest.mark.parametrize(
    "records",
    [
        RecordDict({"00001": ConfigRecord({"part": b"x"})}),
        RecordDict({"00000": ConfigRecord({"part": "x"})}),
        RecordDict({"00000": {"part": b"x"}}),
        RecordDict({"00000": ConfigRecord()}),
    ],
)
def test_what_is_no_blob_is_an_error(apps: SimpleNamespace, records: RecordDict) -> None:
    with pytest.raises(ValueError, match="holds no batch"):
        apps.carrying.from_records(records)


def test_a_batch_goes_to_its_place_and_its_answer_comes_back(apps: SimpleNamespace, served: Served) -> None:
    served.say(relay_lines.batch_frame(7, b"asked"))
    served.turn()
    (message,) = served.grid.pushed
    assert (message.dst_node_id, message.message_type) == (7, "query")
    assert apps.carrying.from_records(message.content) == b"asked"

    served.grid.replies = [Message(apps.carrying.to_records(b"stray"), reply_to="99"),
                           Message(apps.carrying.to_records(b"answered"), reply_to="1")]  # fmt: skip
    served.turn()
    assert served.heard() == relay_lines.Batch(7, b"answered")
    assert not served.carriage.under_way


@pytest.mark.parametrize("way", ["refused", "failed", "odd", "overdue"])
def test_a_batch_that_does_not_come_back_is_said_to_be_lost(
    apps: SimpleNamespace, served: Served, way: str
) -> None:
    reply = Message(apps.carrying.to_records(b"answered"), reply_to="1")
    match way:
        case "refused":
            served.grid.accepts = False
        case "failed":
            reply.error = SimpleNamespace(reason="the ClientApp raised")
        case "odd":
            reply.content = RecordDict({"x": ConfigRecord()})
        case _:
            served.carriage.patience = -1.0
    served.grid.replies = [] if way in ("refused", "overdue") else [reply]
    served.say(relay_lines.batch_frame(7, b"asked"))
    served.turn()
    assert served.heard() == relay_lines.Lost(7)
    assert not served.carriage.under_way


def test_places_are_told_again_where_they_change(served: Served) -> None:
    served.turn()
    served.grid.nodes = [7]
    served.turn()
    assert served.heard() == relay_lines.Places(frozenset({7}))


def test_a_daemon_that_is_gone_ends_the_connection(served: Served) -> None:
    served.daemon.close()
    with pytest.raises(OSError):
        served.carriage.run()


def test_a_site_s_app_brings_a_batch_to_the_node_and_one_back(apps: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "n.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                apps.carrying.write_blob(connection, apps.carrying.read_blob(connection)[::-1])

        thread = threading.Thread(target=answer)
        thread.start()
        message = Message(apps.carrying.to_records(b"asked"))
        context = SimpleNamespace(node_config={"heliosdb-socket": str(path)})
        reply = apps.client_app.exchange(message, context)
        thread.join()
    assert apps.carrying.from_records(reply.content) == b"deksa"


def test_a_site_without_a_node_and_a_node_that_is_silent_are_errors(
    apps: SimpleNamespace, tmp_path: Path
) -> None:
    message, path = Message(apps.carrying.to_records(b"asked")), tmp_path / "n.sock"
    with pytest.raises(LookupError, match="does not name heliosdb-socket"):
        apps.client_app.exchange(message, SimpleNamespace(node_config={}))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def leave() -> None:
            listener.accept()[0].close()

        thread = threading.Thread(target=leave)
        thread.start()
        with pytest.raises((EOFError, OSError)):
            apps.client_app.exchange(message, SimpleNamespace(node_config={"heliosdb-socket": str(path)}))
        thread.join()


def test_more_than_a_batch_is_not_read(apps: SimpleNamespace) -> None:
    daemon, app = socket.socketpair()
    with daemon, app:
        daemon.sendall(_LENGTH.pack(limits.MAX_BATCH_BYTES + 1))
        with pytest.raises(ValueError, match="no more than"):
            apps.carrying.read_blob(app)

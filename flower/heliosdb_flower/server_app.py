"""Beside the coordinator: takes batches from its daemon's socket to SuperNodes, and their answers back.

What always holds: it runs until the run is stopped, whether the daemon is there or not; to a SuperNode goes
one message at a time, which is what a SuperNode works on; what does not come back is said to be lost.
"""

from __future__ import annotations

import queue
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from logging import INFO, WARNING

from flwr.app import Context, Message, MessageType
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp

from heliosdb_flower.carrying import MAX_BATCH_BYTES, from_records, read_blob, to_records, write_blob

_PLACE = struct.Struct("!Q")
_TICK_SECONDS, _PLACES_SECONDS, _PAUSE_SECONDS = 0.5, 3.0, 2.0

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry batches, over one connection to the daemon after the other."""
    path = str(context.run_config["coordinator-socket"])
    patience = float(context.run_config["lost-after-seconds"])
    said = ""
    while True:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect(path)
                log(INFO, "connected to the coordinator at %s", path)
                said = ""
                Carriage(grid, connection, patience).run()
        except OSError as error:
            if said != str(error):
                log(WARNING, "the coordinator cannot be reached at %s: %s", path, error)
            said = str(error)
        time.sleep(_PAUSE_SECONDS)


@dataclass(slots=True)
class Carriage:
    """What is under way over one connection. patience: seconds until a batch counts as lost."""

    grid: Grid
    connection: socket.socket
    patience: float
    places: frozenset[int] | None = None
    under_way: dict[str, tuple[int, float]] = field(default_factory=dict)
    taken: queue.SimpleQueue[bytes | None] = field(default_factory=queue.SimpleQueue)

    def run(self) -> None:
        """Carry until the daemon is gone: OSError."""
        threading.Thread(target=self._read, name="coordinator", daemon=True).start()
        look = 0.0
        while True:
            if time.monotonic() >= look:
                self._tell_places()
                look = time.monotonic() + _PLACES_SECONDS
            self._send()
            self._fetch()

    def _read(self) -> None:
        """In a thread of its own: batches as they come, None at the end."""
        try:
            while True:
                self.taken.put(read_blob(self.connection, 1 + _PLACE.size + MAX_BATCH_BYTES))
        except (OSError, EOFError, ValueError):
            self.taken.put(None)

    def _tell_places(self) -> None:
        places = frozenset(self.grid.get_node_ids())
        if places != self.places:
            write_blob(self.connection, b"P" + b"".join(map(_PLACE.pack, sorted(places))))
            self.places = places

    def _send(self) -> None:
        """Send what is there, after a moment in which something may come."""
        wait = _TICK_SECONDS
        while True:
            try:
                blob = self.taken.get(timeout=wait)
            except queue.Empty:
                return
            if blob is None:
                raise ConnectionError("the coordinator has closed the connection")
            self._push(_PLACE.unpack_from(blob, 1)[0], blob[1 + _PLACE.size :])
            wait = 0.0

    def _push(self, place: int, batch: bytes) -> None:
        message = Message(to_records(batch), dst_node_id=place, message_type=MessageType.QUERY)
        pushed = list(self.grid.push_messages([message]))
        if pushed and pushed[0]:
            self.under_way[pushed[0]] = (place, time.monotonic() + self.patience)
        else:
            self._lose(place, "it was not accepted")

    def _fetch(self) -> None:
        if not self.under_way:
            return
        for reply in self.grid.pull_messages(list(self.under_way)):
            found = self.under_way.pop(reply.metadata.reply_to_message_id, None)
            if found is None:
                continue
            if reply.has_error():
                self._lose(found[0], reply.error.reason or "the ClientApp failed")
                continue
            try:
                batch = from_records(reply.content)
            except ValueError as error:
                self._lose(found[0], str(error))
            else:
                write_blob(self.connection, b"B" + _PLACE.pack(found[0]) + batch)
        now = time.monotonic()
        for number, (place, deadline) in list(self.under_way.items()):
            if now > deadline:
                del self.under_way[number]
                self._lose(place, "it did not come back in time")

    def _lose(self, place: int, why: str) -> None:
        log(WARNING, "a batch for SuperNode %d is lost: %s", place, why)
        write_blob(self.connection, b"L" + _PLACE.pack(place))

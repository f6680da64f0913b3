"""At a site: hands a batch to the node's daemon at its socket, and returns the batch that it gives for it.

What always holds: nothing is kept from one message to the next. What goes wrong is raised, which Flower
returns as an error; the coordinator then makes a new session.
"""

from __future__ import annotations

import socket

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from heliosdb_flower.carrying import from_records, read_blob, to_records, write_blob

SOCKET = "heliosdb-socket"
"""What the SuperNode's `--node-config` calls the node's setting flower_socket."""

_ANSWER_SECONDS = 120.0
"""A node answers within the time for which it is asked to wait, which is some seconds, and then sends."""

app = ClientApp()


@app.query()
def exchange(message: Message, context: Context) -> Message:
    """Bring a batch to the node, and one back; LookupError, OSError, EOFError or ValueError."""
    path = context.node_config.get(SOCKET)
    if not isinstance(path, str):
        raise LookupError(f"no node is at this SuperNode: its --node-config does not name {SOCKET}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(path)
        write_blob(connection, from_records(message.content))
        return Message(to_records(read_blob(connection)), reply_to=message)

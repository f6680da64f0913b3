"""Vectors of many chunks cross a real socket bit for bit, both ways at once, beside small ones."""

from __future__ import annotations

import asyncio
import hashlib

import numpy as np

from heliosdb.domain.handshake import Greeting, Introduction
from heliosdb.domain.vector import vector_to_bytes
from heliosdb.transport.authority import Authority
from heliosdb.transport.client import NodeClient
from heliosdb.transport.limits import CHUNK_BYTES
from heliosdb.transport.sealing import SealingKey, seal_to
from heliosdb.transport.server import ReceivedTask, ServerIdentity, make_server, server_credentials
from heliosdb.transport.update_messages import SealedUpdate, UpdateHeader, encode_update_header
from heliosdb.transport.verification import pack_payload, sign_update
from tests.support.federation import train_task

AUTHORITY = Authority.create("authority")
NODE, COORDINATOR = (AUTHORITY.issue(name, ["localhost"]) for name in ("node", "coordinator"))


class Doubler:
    """Answers with twice the parameters that it was given."""

    async def introduce(self, greeting: Greeting) -> Introduction:
        return Introduction(())

    async def perform(self, received: ReceivedTask) -> SealedUpdate:
        vector = 2 * received.task.parameters
        key = received.task.key
        payload = pack_payload(vector_to_bytes(vector), 1.0)
        ephemeral, sealed = seal_to(received.sealing_key, payload, key, received.sha256)
        digest = hashlib.sha256(sealed).digest()
        header = encode_update_header(
            UpdateHeader(key, received.sha256, len(vector), ephemeral, len(sealed), digest, None, None)
        )
        return SealedUpdate(header, sign_update(NODE, header), sealed)

    def sent(self, received: ReceivedTask) -> None:
        """Nothing to note."""


async def test_vectors_of_many_chunks_cross_bit_for_bit_both_ways() -> None:
    identity = ServerIdentity(NODE, (COORDINATOR.certificate_pem,))
    credentials = server_credentials(lambda: identity)
    server, port = make_server(Doubler(), lambda: identity.pinned, credentials, "localhost", 0)
    await server.start()
    client = NodeClient(f"https://localhost:{port}", [NODE.certificate_pem], COORDINATOR)
    sealing = SealingKey.generate()
    sizes = [0, 1, CHUNK_BYTES // 8, CHUNK_BYTES // 8 + 1, 1_000_003]
    vectors = [np.random.default_rng(size).normal(size=size) for size in sizes]
    updates = await asyncio.gather(
        *(
            client.perform(train_task(parameters=vector), sealing, 60.0, expected_size=len(vector))
            for vector in vectors
        )
    )
    await client.close()
    await server.stop(0)
    for vector, update in zip(vectors, updates, strict=True):
        assert update.vector.tobytes() == (2 * vector).tobytes()
        assert update.bytes_sent > vector.nbytes
        assert update.bytes_received > vector.nbytes

"""Free loopback ports."""

from __future__ import annotations

import random
import socket

_CHANCE = random.SystemRandom()
_PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to whoever asks for any port: what a test leaves free stays so."""


_GIVEN: set[int] = set()


def free_port() -> int:
    """Return a port that nothing listens on at the moment, another one each time."""
    for _ in range(1_000):
        port = _CHANCE.choice(_PORTS)
        if port in _GIVEN:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _GIVEN.add(port)
        return port
    raise AssertionError("no port is free")

"""How large anything on the wire may be. What is larger is refused before it is stored."""

from __future__ import annotations

CHUNK_BYTES = 256 * 1024
MAX_HEADER_BYTES = 2 * 1024 * 1024
MAX_SIGNATURE_BYTES = 256
MAX_NOTE_BYTES = 16 * 1024 * 1024
# A release is stored as one value, which PostgreSQL must be able to show: at twice its size, within 1 GB.
MAX_VECTOR_BYTES = 256 * 1024 * 1024
# The sealed payload is the weight, what the computation took, the encoded vector and the tag of the cipher.
WEIGHT_BYTES = 8
USAGE_BYTES = 24
TAG_BYTES = 16
FRONT_BYTES = WEIGHT_BYTES + USAGE_BYTES
MAX_NAME_CHARACTERS = 255
MAX_SHORT_NAME_CHARACTERS = 64
MAX_MESSAGE_CHARACTERS = 2000
MAX_COLUMNS = 1600
MAX_INPUTS = 16_000
MAX_CLASSES = 1000
MAX_LEVELS = 1000
MAX_LEVEL_BYTES = 120
MAX_EDGES = 65_536
MAX_DATASETS = 1000
MAX_EXTRAS = 32
MAX_DECLARED_VALUES = 32
MAX_NODES = 10_000
MAX_SETTINGS = 256
MAX_SETTING_VALUES = 10_000
MAX_SETTING_CHARACTERS = 10_000
MAX_ENDED_RUNS = 10_000
MAX_SUBSCRIPTIONS = 1000
MAX_KEPT_VERSIONS = 100
# What follows a node's statement: all of it is held.
MAX_ORDER_BODY_BYTES = 64 * 1024 * 1024
# Chains of a workspace's audit log: one, and one more for each time that a dump of it was restored.
MAX_LOGS = 64
# Calls that a node which dials in takes at once, over one connection.
MAX_OFFERS = 32
# One way of a call whose messages another system carries: a state or a vector, a note and a header.
MAX_RELAYED_BYTES = MAX_VECTOR_BYTES + MAX_NOTE_BYTES + 2 * MAX_HEADER_BYTES
# What such a system is handed at once: one call, or many small ones.
MAX_BATCH_BYTES = MAX_RELAYED_BYTES + 16 * 1024 * 1024
MAX_BATCH_ENVELOPES = 1024
# Of a version; its arrays are a state, and bounded as one.
MAX_PREDICTION_BYTES = 64 * 1024 * 1024

# Of one gathering: the tasks of all its nodes, which are held.
MAX_GATHERED_HEADER_BYTES = 64 * 1024 * 1024
# Of one of its tasks, which travels in one message.
MAX_GATHERED_NOTE_BYTES = 256 * 1024
MAX_PINNED = 8
MAX_CERTIFICATE_BYTES = 64 * 1024


def payload_bytes(encoded: int) -> int:
    """Bytes of the sealed payload that carries a vector encoded in `encoded` bytes."""
    return FRONT_BYTES + encoded + TAG_BYTES

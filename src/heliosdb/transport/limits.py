"""How large anything on the wire may be. What is larger is refused before it is stored."""

from __future__ import annotations

CHUNK_BYTES = 1024 * 1024
MAX_HEADER_BYTES = 256 * 1024
MAX_SIGNATURE_BYTES = 256
# A release is stored as one value, which PostgreSQL must be able to show: at twice its size, within 1 GB.
MAX_VECTOR_BYTES = 256 * 1024 * 1024
# The sealed payload is the weight, what the computation took, the vector and the tag of the cipher.
WEIGHT_BYTES = 8
USAGE_BYTES = 24
TAG_BYTES = 16
MAX_NAME_CHARACTERS = 255
MAX_MESSAGE_CHARACTERS = 2000
MAX_COLUMNS = 1600
MAX_DATASETS = 1000


def payload_bytes(length: int) -> int:
    """Bytes of the sealed payload that carries a vector of `length` values."""
    return WEIGHT_BYTES + USAGE_BYTES + 8 * length + TAG_BYTES

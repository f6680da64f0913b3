"""The key of a database server to which sealed predictions are sealed.

What always holds: it is in no table, and so in no dump. It comes from a file of the data directory that the
server's user alone reads and that is made when a key is first needed; or, where the environment of the
server (postmaster) says so, from another file or a command. Nobody who logs in can set that: no setting of a
session names a file or a program.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shlex
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID

from federated_sql.errors import ErrorCode, FederatedError, not_supported
from heliosdb.domain.key_sources import KeySource
from heliosdb.domain.sealed_box import UnopenedBoxError, require_library
from heliosdb.domain.sealed_prediction import is_sealed, open_numbers, public_key
from heliosdb.extension.export_keys import find_secret, load_or_create_secret
from heliosdb.extension.server_files import data_directory

FILE_NAME = "heliosdb_predictions.key"
KEY_FILE, KEY_COMMAND = "HELIOSDB_PREDICTION_KEY_FILE", "HELIOSDB_PREDICTION_KEY_COMMAND"
"""Variables of the server's own environment."""


def public() -> bytes:
    """Return the public key (32 bytes), making the key file on first use; FederatedError IDENTITY."""
    require_library()
    given = _given()
    secret = load_or_create_secret(Path(data_directory()), FILE_NAME) if given is None else given.read()
    return public_key(_private(secret))


def check_server() -> None:
    """FederatedError NOT_SUPPORTED where this server cannot predict by sealed numbers; IDENTITY where its key
    cannot be used."""
    if find_spec("numpy") is None:
        raise not_supported(
            "predictions by sealed numbers need numpy, which is not installed for the server's Python",
            hint="Install it for the Python that PL/Python uses, or set prediction = 'inline'.",
        )
    public()


def open_version(key: str, prediction: str, arrays: bytes | None) -> tuple[str, bytes | None]:
    """Return a stored prediction (JSON) and its arrays as they are in plain. key: the version's."""
    if arrays is None or not is_sealed(arrays):
        return prediction, arrays
    given = _given()
    secret = find_secret(Path(data_directory()), FILE_NAME) if given is None else given.read()
    try:
        if secret is None:
            raise UnopenedBoxError
        content, plain = open_numbers(_private(secret), arrays, UUID(key))
    except UnopenedBoxError:
        raise FederatedError(
            ErrorCode.IDENTITY,
            "the sealed numbers of the version do not open with this server's key",
            detail=f"They were sealed to another key, or changed. The key is {given or FILE_NAME}.",
            hint="A restored dump needs the key of the server that it is from; or train the model anew.",
        ) from None
    return json.dumps(json.loads(prediction) | content), plain


def _given() -> KeySource | None:
    """Where the server's environment says that the key is; None: in the data directory."""
    file, command = os.environ.get(KEY_FILE), os.environ.get(KEY_COMMAND)
    if file:
        return KeySource(file=Path(file))
    return KeySource(command=tuple(shlex.split(command))) if command else None


def _private(secret: bytes) -> bytes:
    return hmac.digest(secret, b"heliosdb predictions 1", hashlib.sha256)

"""A data subject in the text of a statement, as only the coordinator can read it: base64 of a sealed box.

What always holds: it opens with the coordinator's key alone, and in a statement of the kind that it was made
for; in an order's own box it cannot be taken for an identifier, in which no NUL is.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable
from pathlib import Path

from federated_sql.errors import invalid_value
from heliosdb.domain.sealed_box import seal_box

KEY_BYTES = 32
KEY_FILE = "subject_key.pub"
"""In the coordinator's state_directory."""
_MARK = b"\0"
_LINE = "heliosdb-subject-key "
_MOST_LINE_BYTES = 1_024


def seal_subject(public: bytes, kind: str, subject: str) -> str:
    """Seal an identifier for statements of one kind (erase, grant, revoke, export)."""
    return base64.b64encode(seal_box(public, subject.encode(), about=about(kind))).decode()


def wrap(sealed: str) -> bytes:
    """What goes into an order's box in the place of an identifier; 22023 for what is not base64."""
    try:
        return _MARK + base64.b64decode(sealed, validate=True)
    except (binascii.Error, ValueError):
        raise invalid_value("the sealed data subject is not base64") from None


def unwrap(plain: bytes, kind: str, open_box: Callable[[bytes, bytes], bytes]) -> bytes:
    """The identifier in an order's box, by whichever way it came there.

    open_box: opens sealed bytes that are about something. Whatever that raises.
    """
    return open_box(plain[len(_MARK) :], about(kind)) if plain.startswith(_MARK) else plain


def about(kind: str) -> bytes:
    """What a subject that a statement names sealed is bound to."""
    return b"heliosdb sealed subject 1\0" + kind.encode()


def write_key(path: Path, public: bytes) -> None:
    """Write the file by which a proxy comes to know the coordinator's public key, where it is not there."""
    line = f"{_LINE}{base64.b64encode(public).decode()}\n"
    try:
        if path.exists() and path.read_text(encoding="ascii", errors="replace") == line:
            return
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(line, encoding="ascii")
        draft.replace(path)
    except OSError as error:
        raise invalid_value(f"cannot write the subject key {path}: {error.strerror}") from error


def read_key(path: Path) -> bytes:
    """Read such a file; 22023 where it is none."""
    try:
        with path.open("rb") as file:
            line = file.read(_MOST_LINE_BYTES).decode("ascii")
        if not line.startswith(_LINE):
            raise ValueError
        public = base64.b64decode(line.removeprefix(_LINE).strip(), validate=True)
        if len(public) != KEY_BYTES:
            raise ValueError
    except OSError as error:
        raise invalid_value(f"cannot read the subject key {path}: {error.strerror}") from error
    except ValueError:
        raise invalid_value(
            f"{path} holds no subject key", hint="A coordinator writes one into its state_directory."
        ) from None
    return public

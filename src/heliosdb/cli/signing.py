"""The options by which a command signs what it writes.

What always holds: both are given, or neither is; the key is read when the command runs, and not before.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from heliosdb.transport.identity import Identity

SignCertificate = Annotated[
    Path | None, typer.Option(help="Certificate (PEM) of the key that signs.", show_default=False)
]
SignKey = Annotated[
    Path | None,
    typer.Option(help="Key (PEM) that signs; the signature goes to OUTPUT.sig.", show_default=False),
]


def load_signer(certificate: Path | None, key: Path | None) -> Identity | None:
    """Return who signs, or None where neither is given; typer's error where one is missing."""
    if (certificate is None) != (key is None):
        raise typer.BadParameter(
            "both are needed, or neither", param_hint="'--sign-certificate' / '--sign-key'"
        )
    if certificate is None or key is None:
        return None
    from heliosdb.transport.identity import Identity

    return Identity.load(certificate, key)

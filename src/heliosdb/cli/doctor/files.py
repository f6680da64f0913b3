"""Examines what a daemon's settings name on this machine: keys, certificates, directories, ports."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import socket
import ssl
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from pydantic import SecretStr

from heliosdb.cli.doctor.findings import Finding, fault, good, warning
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.wording import counted
from heliosdb.parts.protocols import LEAST_NODES
from heliosdb.transport.expiry import SOON
from heliosdb.transport.identity import Identity, pinned_bundle, split_endpoint
from heliosdb.transport.relay_sockets import check_directory

_LITTLE_BYTES, _NO_BYTES = 2**30, 100 * 2**20
_ANSWER_SECONDS = 5.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1"}  # noqa: S104 - who listens everywhere is asked here
_CERTIFICATES = (
    "Renew it: heliosdb certificates renews those that it made; the daemon takes new files by itself."
)


def examine_secret(path: Path, about: str) -> Iterator[Finding]:
    """Examine a file that nobody else may read."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        yield fault(about, f"{path}: {error.strerror}", "Put the file there, or name another one.")
        return
    if not os.access(path, os.R_OK):
        yield fault(about, f"{path} cannot be read by this user", "Run the doctor as the daemon's own user.")
    elif mode & (stat.S_IROTH | stat.S_IWOTH):
        yield fault(about, f"{path} is open to everybody", f"chmod 600 {path}")
    elif mode & (stat.S_IRGRP | stat.S_IWGRP):
        yield warning(about, f"{path} is open to its group", f"chmod 600 {path}")
    else:
        yield good(about, f"{path} is its owner's alone")


def examine_identity(certificate: Path, private_key: Path) -> Iterator[Finding]:
    """Examine a daemon's certificate and key."""
    yield from examine_secret(private_key, "private_key")
    try:
        Identity.load(certificate, private_key)
    except FederatedError as error:
        yield fault("certificate", error.message, "Name a certificate and its own key, ECDSA P-256 in PEM.")
    else:
        yield good("certificate", "belongs to the private key")
    yield from examine_certificates(certificate, "certificate")


def examine_certificates(path: Path, about: str) -> Iterator[Finding]:
    """Examine until when the certificates in a file are valid."""
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        yield fault(about, f"{path}: {error.strerror}", "Put the file there, or name another one.")
        return
    except ValueError:
        yield fault(about, f"{path} holds no certificate in PEM", "Name a file with one.")
        return
    now = dt.datetime.now(dt.UTC)
    for one in found:
        ends = one.not_valid_after_utc
        if one.not_valid_before_utc > now:
            yield fault(
                about, f"it is valid from {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on", "Set the clock."
            )
        elif ends <= now:
            yield fault(about, f"it expired on {ends:%Y-%m-%d}", _CERTIFICATES)
        elif ends - now < SOON:
            yield warning(about, f"it expires in {counted((ends - now).days, 'day')}", _CERTIFICATES)
        else:
            yield good(about, f"it is valid for {counted((ends - now).days, 'day')}")


def examine_pins(path: Path, about: str) -> Iterator[Finding]:
    """Examine the certificates that a daemon pins."""
    yield from examine_certificates(path, about)
    try:
        pinned_bundle([path.read_bytes()])
    except OSError:
        return
    except FederatedError as error:
        yield fault(about, error.message, error.hint or "Name the peer's own certificate.")


def examine_peers(path: Path, certificate: Path) -> Iterator[Finding]:
    """Examine the certificates of those with whom a node of this certificate takes part in secure sums."""
    about = "peers"
    yield from examine_certificates(path, about)
    try:
        own = set(x509.load_pem_x509_certificates(certificate.read_bytes()))
        others = set(x509.load_pem_x509_certificates(path.read_bytes())) - own
    except (OSError, ValueError):
        return
    if len(others) + 1 < LEAST_NODES:
        yield warning(
            about,
            f"{path} names {counted(len(others), 'participant')} but this one, and a secure sum takes"
            f" {LEAST_NODES} nodes",
            "Put the certificates of the other participants into the file.",
        )


def examine_directory(path: Path, about: str) -> Iterator[Finding]:
    """Examine a directory in which a daemon keeps what it must not lose."""
    there = next((one for one in (path, *path.parents) if one.exists()), Path("/"))
    if there != path:
        if os.access(there, os.W_OK):
            yield warning(about, f"{path} is not there yet", "The daemon makes it when it starts.")
        else:
            yield fault(
                about, f"{path} is not there", f"Make it: install -d -m 700 {path}, as the daemon's user."
            )
    elif not path.is_dir():
        yield fault(about, f"{path} is no directory", "Name a directory.")
    elif not os.access(path, os.W_OK | os.X_OK):
        yield fault(
            about,
            f"this user may not write into {path}",
            "Run the doctor as the daemon's own user, or chown it.",
        )
    elif path.stat().st_mode & 0o077:
        yield warning(about, f"others may enter {path}, in which keys are", f"chmod 700 {path}")
    else:
        yield good(about, f"{path} is its owner's alone")
        for secret in sorted(path.glob("*.key")):
            yield from examine_secret(secret, about)
    yield from _disk(there, about)


def _disk(path: Path, about: str) -> Iterator[Finding]:
    free = shutil.disk_usage(path).free
    said = f"{free / 2**30:.1f} GiB are free on the disk of {path}"
    remedy = "Free some: what cannot be written stops the daemon."
    if free < _NO_BYTES:
        yield fault(about, said, remedy)
    elif free < _LITTLE_BYTES:
        yield warning(about, said, remedy)
    else:
        yield good(about, said)


def examine_node_port(host: str, port: int, certificate: Path) -> Iterator[Finding]:
    """Examine who answers where a node listens, and whether with the certificate of its settings."""
    about = "listen_port"
    if (state := _port_state(host, port, about)) is not None:
        yield state
        return
    try:
        shown = _shown_certificate(host, port)
    except (OSError, ValueError):
        yield fault(
            about, f"who listens at port {port} is not a node", "Stop that program, or choose another port."
        )
        return
    try:
        own = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError):
        return  # Said of the certificate.
    if shown == own:
        yield good(about, f"port {port} answers with the certificate of these settings")
    else:
        yield fault(
            about,
            f"port {port} answers with another certificate",
            "Another daemon listens there, or this one could not use the new files: see its log.",
        )


def examine_port(host: str, port: int, about: str = "listen_port") -> Iterator[Finding]:
    """Examine whether anybody answers at a port."""
    yield _port_state(host, port, about) or good(about, f"port {port} answers")


def examine_way(addresses: Sequence[str], proxy: SecretStr | None) -> Iterator[Finding]:
    """Examine whether somebody answers where a node dials: at its proxy, else at one of its addresses.

    Of several coordinators one leads, and the others listen nowhere.
    """
    if proxy is not None:
        parts = urlsplit(proxy.get_secret_value())
        yield _way("proxy", [(parts.hostname or "", parts.port or 0)])
    else:
        yield _way("dial", [split_endpoint(address) for address in addresses])


def examine_socket(path: Path) -> Iterator[Finding]:
    """Examine whether a socket for Flower's programs could be at `path`, and whether a daemon is there."""
    about = "flower_socket"
    try:
        check_directory(path)
    except FederatedError as error:
        yield fault(about, error.message, error.hint or "Make the directory, for the daemon's user alone.")
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.connect(str(path))
        except OSError as error:
            yield warning(about, f"nobody answers at {path}: {error.strerror}", "Start the daemon.")
        else:
            yield good(about, f"{path} answers")


def _way(about: str, places: Sequence[tuple[str, int]]) -> Finding:
    failures: list[str] = []
    for host, port in places:
        try:
            with socket.create_connection((host, port), _ANSWER_SECONDS):
                return good(about, f"port {port} of {host} answers")
        except OSError as error:
            failures.append(f"port {port} of {host} cannot be reached: {error.strerror or error}")
    return fault(about, "; ".join(failures), "Look at the firewall, and whether a coordinator leads there.")


def _port_state(host: str, port: int, about: str) -> Finding | None:
    """What there is to say of a port where nobody answers; None where somebody does."""
    if port == 0:
        return warning(about, "any free port is taken (0)", "Name one: peers have to know it.")
    try:
        with socket.create_connection((_ANY.get(host, host), port), _ANSWER_SECONDS):
            return None
    except OSError:
        pass
    try:
        with socket.create_server((_ANY.get(host, host), port)):
            return warning(about, f"nobody listens at port {port}, which is free", "Start the daemon.")
    except OSError as error:
        return fault(
            about,
            f"port {port} of {host} can neither be reached nor listened at: {error.strerror}",
            "Name an address of this machine, and a port above 1023.",
        )


def _shown_certificate(host: str, port: int) -> x509.Certificate:
    context = ssl.create_default_context()
    # Who it is, is told by the certificate itself, which is compared.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    address = (_ANY.get(host, host), port)
    with socket.create_connection(address, _ANSWER_SECONDS) as plain, context.wrap_socket(plain) as secure:
        der = secure.getpeercert(binary_form=True)
    if der is None:
        raise ValueError("no certificate was shown")
    return x509.load_der_x509_certificate(der)

"""`heliosdb health`: whether a daemon, and what it cannot work without, answer now.

What always holds: it ends within its timeout, whatever hangs; it says one line, in which no setting's value
but an address is shown; and it changes nothing where it asks.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.liveness.answering import ask

if TYPE_CHECKING:
    from heliosdb.proxy.config import Upstream

_CANNOT_CONNECT_NOW = b"57P03"
_LONGEST = 64 * 1024
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - who listens everywhere is asked here


@dataclass(frozen=True, slots=True)
class Question:
    """Something that has to answer: what it is, and how it is asked within so many seconds.

    `put` returns what there is to say, or raises what stood against it.
    """

    what: str
    put: Callable[[float], str]


@dataclass(slots=True)
class _Examination:
    """How far one has come; written by its own thread."""

    asking: str = "the settings"
    verdict: tuple[bool, str] | None = None


def examine(daemon: str, config: Path, timeout: float) -> tuple[bool, str]:
    """Return whether the daemon is well, and the line that says so or why not."""
    examination = _Examination()
    # Names are looked up in C, which no timeout reaches: the thread is left behind where it hangs.
    thread = threading.Thread(target=_examine, args=(examination, daemon, config, timeout), daemon=True)
    thread.start()
    thread.join(timeout)
    well, words = examination.verdict or (False, f"{examination.asking}: no answer within {timeout:g} s")
    return well, " ".join(f"{daemon}: {words}".split())


def _examine(examination: _Examination, daemon: str, config: Path, timeout: float) -> None:
    end = time.monotonic() + timeout
    said: list[str] = []
    try:
        for question in _QUESTIONS[daemon](config):
            examination.asking = question.what
            said.append(question.put(max(0.1, end - time.monotonic())))
        examination.verdict = (True, "; ".join(filter(None, said)))
    except FederatedError as error:
        reason = error.message if error.detail is None else f"{error.message}: {error.detail}"
        examination.verdict = (False, f"{examination.asking}: {reason}")
    except TimeoutError:
        examination.verdict = (False, f"{examination.asking}: no answer within {timeout:g} s")
    except OSError as error:
        examination.verdict = (False, f"{examination.asking}: {error.strerror or type(error).__name__}")
    except Exception as error:  # noqa: BLE001 - whatever else an answer leads to, it is no good one
        examination.verdict = (False, f"{examination.asking}: {type(error).__name__}: {error}")


def _coordinator(path: Path) -> Iterator[Question]:
    from heliosdb.coordinator.config import load_config

    config = load_config(path)
    yield daemon_question(config.health_socket)
    yield _database("its database", config.database.get_secret_value())


def _node(path: Path) -> Iterator[Question]:
    from heliosdb.node.config import load_config

    config = load_config(path)
    yield daemon_question(config.health_socket)
    if not config.dial and config.flower_socket is None:
        # Of one that dials, its own word says whether it is connected; one that Flower reaches waits for it.
        yield Question(
            "its port", lambda seconds: _shake_hands(config.listen_host, config.listen_port, seconds)
        )
    yield _database("its database", config.database.get_secret_value())
    yield _database("its database, as the reader", config.reader.get_secret_value())


def _proxy(path: Path) -> Iterator[Question]:
    from heliosdb.proxy.config import load_config

    config = load_config(path)
    yield Question(
        "its port", lambda seconds: _ask_for_tls(config.listen_address, config.listen_port, seconds)
    )
    for upstream in config.upstreams:
        yield server_question(upstream)


def _api(path: Path) -> Iterator[Question]:
    from heliosdb.api.config import load_config

    config = load_config(path)
    # Whether its database answers is what it says itself: its role has no right to anything.
    yield daemon_question(config.health_socket)
    yield Question("its port", lambda seconds: _reach_port(config.listen_host, config.listen_port, seconds))


_QUESTIONS: dict[str, Callable[[Path], Iterator[Question]]] = {
    "coordinator": _coordinator,
    "node": _node,
    "proxy": _proxy,
    "api": _api,
}


def daemon_question(path: Path | None) -> Question:
    """Ask a daemon on its socket; FederatedError INVALID_VALUE where it has none."""
    if path is None:
        raise invalid_value('the setting "health_socket" is missing, so that the daemon answers nowhere')

    def put(seconds: float) -> str:
        state = ask(path, seconds)
        if not state.well:
            raise FederatedError(ErrorCode.UNREACHABLE, state.words)
        return state.words

    return Question("the daemon", put)


def _database(what: str, conninfo: str) -> Question:
    def put(seconds: float) -> str:
        import psycopg

        from heliosdb.catalog.psycopg_connection import connected
        from heliosdb.catalog.server_state import ping

        try:
            # libpq takes whole seconds, and fewer than two for two.
            limited = psycopg.conninfo.make_conninfo(conninfo, connect_timeout=max(2, round(seconds)))
            with connected(limited, application_name="heliosdb health") as connection:
                ping(connection)
        except psycopg.OperationalError as error:
            raise FederatedError(ErrorCode.UNREACHABLE, _first_line(error)) from error
        except psycopg.Error as error:
            # What cannot be read as a connection string may be quoted, password and all.
            reason = error.diag.message_primary or "the connection string cannot be used"
            raise FederatedError(ErrorCode.UNREACHABLE, reason) from error
        return f"{what} answers"

    return Question(what, put)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _shake_hands(host: str, port: int, seconds: float) -> str:
    """Shake hands as a stranger: the certificate is shown, and then the stranger is turned away."""
    context = ssl.create_default_context()
    # Who it is, its peers verify; here it has to be there.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with _connect(host, port, seconds) as plain, context.wrap_socket(plain):
        return f"port {port} answers"


def _ask_for_tls(host: str, port: int, seconds: float) -> str:
    """Ask the proxy for TLS: S and N are its answers, E that it has too many clients."""
    from heliosdb.proxy.wire import SSL_CODE

    with _connect(host, port, seconds) as asking:
        asking.sendall((8).to_bytes(4, "big") + SSL_CODE.to_bytes(4, "big"))
        if asking.recv(1) not in (b"S", b"N", b"E"):
            raise ValueError("who listens there is not the proxy")
    return f"port {port} answers"


def _reach_port(host: str, port: int, seconds: float) -> str:
    with _connect(host, port, seconds):
        return f"port {port} answers"


def _connect(host: str, port: int, seconds: float) -> socket.socket:
    if port == 0:
        raise invalid_value("the settings name no port that could be asked (0 is any free one)")
    return socket.create_connection((_ANY.get(host, host), port), seconds)


def server_question(upstream: Upstream) -> Question:
    """Ask a server of the proxy's whether it takes sessions now."""
    return Question(f"server {upstream.shown}", lambda seconds: _greet(upstream, seconds))


def _greet(upstream: Upstream, seconds: float) -> str:
    """Begin a session and leave before anybody logs in; a server that is starting or stopping says so."""
    from heliosdb.proxy.wire import HEAD, build_startup, parse_fields

    with _reach(upstream, seconds) as asking, asking.makefile("rb") as stream:
        asking.sendall(build_startup({"user": "heliosdb", "database": "postgres"}))
        head = stream.read(HEAD.size)
        if len(head) < HEAD.size:
            raise ValueError("it hung up")
        kind, length = HEAD.unpack(head)
        if kind == ord("E"):
            fields = dict(parse_fields(stream.read(min(length - 4, _LONGEST))))
            if fields.get(b"C") == _CANNOT_CONNECT_NOW:
                raise FederatedError(ErrorCode.UNREACHABLE, fields.get(b"M", b"").decode(errors="replace"))
    return f"server {upstream.shown} answers"


def _reach(upstream: Upstream, seconds: float) -> socket.socket:
    if upstream.socket_path is None:
        return _connect(upstream.host, upstream.port, seconds)
    asking = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    asking.settimeout(seconds)
    asking.connect(upstream.socket_path)
    return asking

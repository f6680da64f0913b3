"""`heliosdb up` and `heliosdb down`: bring an embedded installation up, keep it up, and leave nothing behind.

What always holds: whoever starts or stops something in a directory holds the lock on its lock file, which
the kernel gives back when its holder dies. So an installation is up once or not at all, and what a killed
supervisor left running is ended by the next `up` or `down`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from subprocess import TimeoutExpired

from heliosdb.cli.embedded import cluster as clusters_
from heliosdb.cli.embedded.account import Account, cluster_account, own_directory, require_reachable
from heliosdb.cli.embedded.cluster import Cluster
from heliosdb.cli.embedded.daemon import Daemon
from heliosdb.cli.embedded.files import make_directory, write_atomically
from heliosdb.cli.embedded.layout import COORDINATOR, Layout
from heliosdb.cli.embedded.plan import Certificates, ensure_certificates, plan_clusters, plan_daemons
from heliosdb.cli.embedded.prepare import PAGE_ROLE, prepare
from heliosdb.cli.embedded.processes import (
    ProcessMark,
    end_group,
    is_alive,
    mark_of,
    read_marks,
    write_marks,
)
from heliosdb.cli.embedded.server import find_server
from heliosdb.cli.embedded.state import State, plan_state, port_is_free, read_state, write_state
from heliosdb.domain.errors import ErrorCode, FederatedError

_DOWN_SECONDS = 120.0
_POLL_SECONDS = 0.05
_WATCH_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
# Of the extra `api`; without it everything else runs.
_PAGE_NEEDS = ("fastapi", "uvicorn", "jwt", "psycopg_pool")
_CHOSEN_BY = {"the proxy": "Choose another with --port.", "gRPC": "Choose another with --grpc-port."}

Announce = Callable[[str], None]
Tell = Callable[["Installation", Mapping[str, object]], None]
"""Gets an installation that is ready, and where everything in it is (`describe`)."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller of `up` asked for; None means: as it was, or the default.

    grpc_port: where predictions are served by gRPC as well, this time; None: nowhere.
    """

    nodes: int | None = None
    proxy_port: int | None = None
    clusters_only: bool = False
    page: bool = True
    grpc_port: int | None = None


@dataclass(frozen=True, slots=True)
class Installation:
    """Everything decided about an installation before anything of it runs."""

    layout: Layout
    state: State
    account: Account
    clusters: tuple[Cluster, ...]
    certificates: Certificates
    password: str
    has_page: bool


def up(layout: Layout, wishes: Wishes, announce: Announce, when_ready: Tell) -> None:
    """Run the installation under `layout` until SIGINT or SIGTERM.

    `when_ready` is told where everything is; `announce` gets lines for people.
    Raises WRONG_STATE where it is already up, and what keeps a part from starting, after stopping the rest.
    """
    with _directory(layout), _hold_lock(layout) as held:
        if not held:
            raise FederatedError(
                ErrorCode.WRONG_STATE,
                f'the installation in "{layout.root}" is already up',
                hint=f"Stop it with: heliosdb down --dir '{layout.root}'",
            )
        asyncio.run(_run(layout, wishes, announce, when_ready))


def down(layout: Layout, announce: Announce) -> None:
    """Stop the installation under `layout`, also where its supervisor was killed."""
    if not layout.state_file.exists():
        raise FederatedError(
            ErrorCode.UNDEFINED_OBJECT,
            f'there is no installation in "{layout.root}"',
            hint="Name it with --dir.",
        )
    deadline = time.monotonic() + _DOWN_SECONDS
    asked = False
    while True:
        with _hold_lock(layout) as held:
            if held:
                ended = _end_leftovers(layout)
                layout.pid_file.unlink(missing_ok=True)
                announce("stopped" if asked or ended else "nothing was running")
                return
        asked = _ask_supervisor_to_stop(layout) or asked
        if time.monotonic() > deadline:
            raise FederatedError(
                ErrorCode.TIMEOUT,
                f'the installation in "{layout.root}" did not stop within {_DOWN_SECONDS:g} s',
                hint=f"See the logs in {layout.log_directory}.",
            )
        time.sleep(_POLL_SECONDS)


@contextmanager
def _directory(layout: Layout) -> Iterator[None]:
    """Make the directory; take it away again if it was not there and nothing was decided about it."""
    absent = [path for path in (layout.root, *layout.root.parents) if not path.exists()]
    make_directory(layout.root)
    try:
        yield
    finally:
        if absent and not layout.state_file.exists():
            layout.lock_file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # somebody has put something there meanwhile
                for path in absent:
                    path.rmdir()


@contextmanager
def _hold_lock(layout: Layout) -> Iterator[bool]:
    with layout.lock_file.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _ask_supervisor_to_stop(layout: Layout) -> bool:
    mark = read_marks(layout.pid_file).get("up")
    if mark is None or mark.pid == os.getpid() or not is_alive(mark):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(mark.pid, signal.SIGTERM)
    return True


def _end_leftovers(layout: Layout) -> bool:
    """End what a killed supervisor left running; whether there was anything. The lock is held."""
    left = [mark for mark in read_marks(layout.processes_file).values() if is_alive(mark)]
    for mark in left:
        end_group(mark)
    layout.processes_file.unlink(missing_ok=True)
    state = read_state(layout.state_file)
    version = clusters_.made_by(layout.pgdata(COORDINATOR)) if state is not None else None
    if state is None or version is None:
        return bool(left)
    known = plan_clusters(layout, state, find_server(version), cluster_account())
    running = [cluster for cluster in known if clusters_.is_running(cluster)]
    for cluster in running:
        clusters_.stop(cluster)
    return bool(left or running)


async def _run(layout: Layout, wishes: Wishes, announce: Announce, when_ready: Tell) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    write_marks(layout.pid_file, {"up": _own_mark()})
    running = _Running(layout, announce)
    try:
        bring_up = asyncio.create_task(running.bring_up(wishes))
        if await _first_of(bring_up, stopping):
            when_ready(bring_up.result(), describe(bring_up.result(), wishes))
            await stopping.wait()
    finally:
        if running.has_started:
            announce("stopping")
        await running.bring_down()
        layout.pid_file.unlink(missing_ok=True)


async def _first_of(task: asyncio.Task[Installation], stopping: asyncio.Event) -> bool:
    """Whether `task` has succeeded before `stopping`; its error is raised, and it has ended in every case."""
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if stopping.is_set():
        # What runs in a thread cannot be interrupted, but every step of it ends by itself.
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, FederatedError):
            await task
        return False
    task.result()
    return True


class _Running:
    """What of an installation runs now, so that it can be taken down from any point."""

    def __init__(self, layout: Layout, announce: Announce) -> None:
        self._layout = layout
        self._announce = announce
        self._clusters: tuple[Cluster, ...] = ()
        self._daemons: list[Daemon] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._marks: dict[str, ProcessMark] = {}
        self._threads: set[asyncio.Task[None]] = set()

    @property
    def has_started(self) -> bool:
        """Whether there is anything to stop."""
        return bool(self._clusters)

    async def bring_up(self, wishes: Wishes) -> Installation:
        """Start the clusters, then the daemons; returns when all are ready."""
        await asyncio.to_thread(_end_leftovers, self._layout)
        installation = await asyncio.to_thread(_decide, self._layout, wishes)
        self._clusters = installation.clusters
        self._announce(f"starting {len(self._clusters)} PostgreSQL clusters in {self._layout.root}")
        await asyncio.gather(
            *(self._in_thread(_bring_up_cluster, c, installation.password) for c in self._clusters)
        )
        self._keepers = [asyncio.create_task(self._keep_cluster(cluster)) for cluster in self._clusters]
        if wishes.clusters_only:
            return installation
        groups = plan_daemons(
            self._layout,
            installation.state,
            installation.clusters,
            installation.certificates,
            with_page=installation.has_page,
            grpc_port=wishes.grpc_port,
        )
        for group in groups:
            daemons = [Daemon(plan, self._record) for plan in group]
            self._daemons += daemons
            await asyncio.gather(*(daemon.start() for daemon in daemons))
        self._keepers += [
            asyncio.create_task(daemon.keep_running(self._announce)) for daemon in self._daemons
        ]
        return installation

    async def bring_down(self) -> None:
        """Stop the daemons, the last started first, then the clusters."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        # A thread that still starts a cluster goes on after its task was cancelled: what it starts must be
        # there before it can be stopped.
        await asyncio.gather(*self._threads, return_exceptions=True)
        for daemon in reversed(self._daemons):
            await daemon.stop()
        await asyncio.gather(*(asyncio.to_thread(clusters_.stop, cluster) for cluster in self._clusters))
        self._layout.processes_file.unlink(missing_ok=True)

    async def _keep_cluster(self, cluster: Cluster) -> None:
        """Start the cluster again whenever it has ended, ever more slowly; runs until cancelled."""
        pause = _WATCH_SECONDS
        while True:
            await asyncio.sleep(pause)
            if await asyncio.to_thread(clusters_.is_running, cluster):
                pause = _WATCH_SECONDS
                continue
            self._announce(f"the PostgreSQL cluster {cluster.name} has ended; starting it again")
            try:
                await self._in_thread(clusters_.start, cluster)
            except (FederatedError, TimeoutExpired) as error:
                self._announce(str(error))
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            else:
                self._announce(f"the PostgreSQL cluster {cluster.name} is ready again")
                pause = _WATCH_SECONDS

    async def _in_thread(self, function: Callable[..., None], cluster: Cluster, *given: str) -> None:
        task = asyncio.create_task(asyncio.to_thread(function, cluster, *given))
        self._threads.add(task)
        await asyncio.shield(task)

    def _record(self, name: str, mark: ProcessMark | None) -> None:
        if mark is None:
            self._marks.pop(name, None)
        else:
            self._marks[name] = mark
        write_marks(self._layout.processes_file, self._marks)


def _decide(layout: Layout, wishes: Wishes) -> Installation:
    """Everything that has to be there before the first server starts."""
    account = cluster_account()
    programs = find_server(clusters_.made_by(layout.pgdata(COORDINATOR)))
    require_reachable(account, layout.root)
    state = plan_state(read_state(layout.state_file), wishes.nodes, wishes.proxy_port)
    has_page = wishes.page and not wishes.clusters_only and _can_serve_page()
    if wishes.grpc_port is not None and not has_page:
        raise FederatedError(
            ErrorCode.INVALID_VALUE,
            "predictions are served by gRPC by what serves the page, which is not there",
            hint='Install the extra "api", and leave --no-page out.',
        )
    _require_free(state, has_page, wishes.grpc_port)
    write_state(layout.state_file, state)
    own_directory(account, layout.socket_directory)
    for name in state.clusters:
        own_directory(account, layout.cluster(name))
    return Installation(
        layout=layout,
        state=state,
        account=account,
        clusters=plan_clusters(layout, state, programs, account),
        certificates=ensure_certificates(layout, state),
        password=_superuser_password(layout),
        has_page=has_page,
    )


def _can_serve_page() -> bool:
    return all(find_spec(name) is not None for name in _PAGE_NEEDS)


def _require_free(state: State, has_page: bool, grpc_port: int | None) -> None:
    wanted = {"the proxy": state.proxy_port}
    if has_page:
        wanted["the page"] = state.api_port
    if grpc_port is not None:
        wanted["gRPC"] = grpc_port
    wanted |= {f"the database of {name}": port for name, port in state.databases.items()}
    wanted |= {f"the endpoint of {name}": port for name, port in state.endpoints.items()}
    for purpose, port in wanted.items():
        if not port_is_free(port):
            raise FederatedError(
                ErrorCode.IN_USE,
                f"port {port}, which is for {purpose}, is taken by another program",
                hint=_CHOSEN_BY.get(purpose, "Stop that program."),
            )


def _superuser_password(layout: Layout) -> str:
    path = layout.superuser_password_file
    make_directory(path.parent, mode=0o700)
    if not path.exists():
        write_atomically(path, secrets.token_urlsafe(24).encode(), mode=0o600)
    return path.read_text(encoding="ascii")


def _bring_up_cluster(cluster: Cluster, password: str) -> None:
    clusters_.create(cluster, password)
    clusters_.start(cluster)
    prepare(cluster, with_extension=cluster.name != COORDINATOR)


def describe(installation: Installation, wishes: Wishes) -> dict[str, object]:
    """Where everything is, as `up` prints it."""
    state, password = installation.state, installation.password
    by_name = {cluster.name: cluster for cluster in installation.clusters}

    def proxied(cluster: Cluster) -> str:
        return f"postgresql://postgres:{password}@127.0.0.1:{state.proxy_port}/{cluster.database}"

    def node(name: str) -> dict[str, str]:
        facts = {
            "database": by_name[name].url(password),
            "endpoint": f"https://localhost:{state.endpoints[name]}",
            "certificate": str(installation.certificates.identities[name].certificate),
        }
        return facts if wishes.clusters_only else {**facts, "proxy": proxied(by_name[name])}

    facts: dict[str, object] = {
        "coordinator": by_name[COORDINATOR].url(password),
        "nodes": {name: node(name) for name in state.nodes},
    }
    if wishes.clusters_only:
        return facts
    if installation.has_page:
        facts |= {"page": page_url(installation), "page_role": PAGE_ROLE}
    if wishes.grpc_port is not None:
        facts["grpc"] = f"127.0.0.1:{wishes.grpc_port}"
    return {"proxy": proxied(by_name[COORDINATOR]), **facts}


def page_url(installation: Installation) -> str:
    """Where the page is."""
    return f"http://127.0.0.1:{installation.state.api_port}/"


def _own_mark() -> ProcessMark:
    mark = mark_of(os.getpid())
    assert mark is not None
    return mark

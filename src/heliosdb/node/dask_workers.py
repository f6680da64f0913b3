"""The workers of a dask engine: processes of this machine, or those of a scheduler that a site runs.

What always holds: nothing is unpickled that did not come over TLS from who has a certificate of the site's
own authority (of local workers one that is made for them); a failure is told as the node tells its own.
Workers of this machine put no rows on a disk but in files without a name, as the node itself does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any, TypeAlias

import dask
from distributed import Client, KilledWorker, LocalCluster, Security, wait
from distributed.comm import CommClosedError

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.node import dask_parts
from heliosdb.node.allowance import Allowance
from heliosdb.node.dask_parts import PartFailedError, Told
from heliosdb.node.dask_place import DaskPlace
from heliosdb.node.engine import PartsLostError
from heliosdb.node.scratch import ScratchFullError

log = logging.getLogger(__name__)

Held: TypeAlias = Any
"""Something that a worker has, or will have when its task is done: distributed's `Future`."""

_CONNECT_SECONDS = 20
_START_SECONDS = 90
"""Until a worker is there: after one has died another one is started, which takes seconds."""

_LOOK_SECONDS = 2
"""How often it is looked whether workers are still there, while a task is waited for."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_QUIET = {
    # Rows would be written to files with names.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    # The kernel holds a worker to its memory; without it a worker would wait for room for ever.
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    # A part is large, and stays where it was read.
    "distributed.scheduler.work-stealing": False,
    # No server besides: what it shows is neither encrypted nor kept from anybody.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.diagnostics.nvml": False,
}


class Workers:
    """Starts or finds them when they are first asked for, and again when they are gone.

    allowance: of the node's process when it began.
    """

    def __init__(self, place: DaskPlace, allowance: Allowance) -> None:
        # What it logs of tasks may quote what they were given.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        self._place, self._scratch = place, allowance.scratch
        self._cores = sorted(os.sched_getaffinity(0))
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._there = frozenset[str]()

    @property
    def are_local(self) -> bool:
        """Whether they are processes of this machine."""
        return self._place.workers > 0

    def addresses(self) -> list[str]:
        """Return where they are, in a fixed order; FederatedError UNREACHABLE where there are none."""
        client = self._connected()
        try:
            client.wait_for_workers(self._place.workers or 1, timeout=_START_SECONDS)
            places = sorted(client.nthreads())
        except (TimeoutError, OSError, CommClosedError):
            self.close()
            raise _unreachable(self._place) from None
        self._there = frozenset(places)
        return places

    def tell(self, name: str, told: Told) -> None:
        """Tell each of them of a reading; this is kept in no task."""
        client, places = self._current(), self.addresses()
        count = 1 if told.allowance is None else told.allowance.cores or len(self._cores)
        for number, place in enumerate(places):
            cores = [self._cores[(number * count + one) % len(self._cores)] for one in range(count)]
            self._run(client, dask_parts.tell, name, told, cores if self.are_local else (), workers=[place])

    def submit(self, task: Callable[..., Any], *given: Any) -> Held:
        """Have a task done, where most of what it is given lies.

        Of no certain worker: a scheduler that has lost all of them waits for that one for ever.
        """
        try:
            return self._current().submit(task, *given, pure=False)
        except (CancelledError, CommClosedError, OSError) as error:
            raise PartsLostError from error

    def send(self, value: Any, near: Held) -> Held:
        """Have a value lie where something else does."""
        client = self._current()
        try:
            places = next(iter(client.who_has([near]).values()))
            return client.scatter(value, workers=list(places) or None, hash=False)
        except (CancelledError, CommClosedError, OSError, KeyError, ValueError) as error:
            raise PartsLostError from error

    def gather(self, tasks: Sequence[Held]) -> list[Any]:
        """Return what tasks gave: FederatedError, MemoryError, ScratchFullError; PartsLostError where workers
        were lost."""
        client = self._current()
        if any(task.client is not client for task in tasks):
            raise PartsLostError
        try:
            self._wait(client, tasks)
            found: list[Any] = client.gather(list(tasks))
        except PartFailedError as error:
            raise _told_error(error) from None
        except (KilledWorker, CancelledError, CommClosedError, OSError) as error:
            raise PartsLostError from error
        return found

    def done(self, tasks: Sequence[Held]) -> None:
        """Wait until tasks are done; errors as of `gather`."""
        try:
            self._wait(self._current(), tasks)
        except (CancelledError, CommClosedError, OSError) as error:
            raise PartsLostError from error
        for task in tasks:
            if task.status != "finished":
                self.gather([task])

    def _wait(self, client: Client, tasks: Sequence[Held]) -> None:
        """Wait until tasks are done, or a worker is gone: what it held is lost, and dask may wait for it for
        ever."""
        while True:
            try:
                wait(list(tasks), timeout=_LOOK_SECONDS)
            except TimeoutError:
                if not self._there <= set(client.nthreads()):
                    raise PartsLostError from None
            else:
                return

    def close(self) -> None:
        """Let go of them; those of this machine end."""
        client, cluster = self._client, self._cluster
        self._client = self._cluster = None
        for one in (client, cluster):
            if one is not None:
                one.close(timeout=5)

    def _connected(self) -> Client:
        if self._client is not None and self._client.status not in ("running", "connecting"):
            self.close()
        if self._client is None:
            self._client = self._start() if self.are_local else self._connect()
            self._check_alike(self._client)
        return self._client

    def _current(self) -> Client:
        """The connection by which rows were read; PartsLostError where it is gone, and they with it."""
        if self._client is None or self._client.status not in ("running", "connecting"):
            raise PartsLostError
        return self._client

    def _start(self) -> Client:
        threads = {name: os.environ[name] for name in _THREADS if name in os.environ}
        settings = {**_QUIET, "distributed.nanny.pre-spawn-environ": threads}
        if self._scratch is not None:
            settings["temporary-directory"] = self._scratch
        dask.config.set(settings)
        security = Security.temporary()
        try:
            self._cluster = self._start_cluster(security)
        except (RuntimeError, OSError, TimeoutError, CommClosedError) as error:
            log.warning("dask: %s", type(error).__name__)
            raise _unreachable(self._place) from None
        return Client(self._cluster)

    def _start_cluster(self, security: Security) -> LocalCluster:
        return LocalCluster(
            n_workers=self._place.workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            # It begins to listen here whatever it is told, and has nothing to show.
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            memory_limit=0,
            silence_logs=logging.CRITICAL,
            security=security,
        )

    def _connect(self) -> Client:
        place = self._place
        security = Security(
            tls_ca_file=place.ca,
            tls_client_cert=place.certificate,
            tls_client_key=place.private_key,
            require_encryption=True,
        )
        try:
            return Client(place.scheduler, security=security, timeout=_CONNECT_SECONDS)
        except (OSError, TimeoutError, CommClosedError):
            raise _unreachable(place) from None

    def _check_alike(self, client: Client) -> None:
        own = dask_parts.describe()
        for there in self._run(client, dask_parts.describe).values():
            differing = [name for name, value in own.items() if there[name] != value]
            if differing:
                name = differing[0]
                self.close()
                raise FederatedError(
                    ErrorCode.WRONG_STATE,
                    f"a worker of the node's dask engine has {name} {there[name] or 'unset'}, and the node"
                    f" {own[name] or 'unset'}",
                    hint="The last bits of sums depend on it: workers have the node's packages and settings.",
                )

    def _run(self, client: Client, task: Callable[..., Any], *given: Any, **options: Any) -> dict[str, Any]:
        try:
            found: dict[str, Any] = client.run(task, *given, **options)
        except (CancelledError, CommClosedError, OSError, TimeoutError) as error:
            raise PartsLostError from error
        return found


def _told_error(error: PartFailedError) -> Exception:
    kind, message, detail, hint = error.args
    if kind == "lost":
        return PartsLostError()
    if kind == "memory":
        return MemoryError()
    if kind == "scratch":
        return ScratchFullError(message)
    return FederatedError(ErrorCode[kind], message, detail=detail, hint=hint)


def _unreachable(place: DaskPlace) -> FederatedError:
    if place.workers:
        log.error("the workers of the dask engine did not start")
        return FederatedError(
            ErrorCode.UNREACHABLE,
            "the workers of the node's dask engine did not start",
            hint="The node's own log says why; max_memory_gb may be too low for a worker.",
        )
    log.error("the dask scheduler %s cannot be reached, or has no worker", place.scheduler)
    return FederatedError(
        ErrorCode.UNREACHABLE,
        "the node's dask scheduler cannot be reached, or has no worker",
        hint="Start it with its workers; the settings of [dask] in node.toml say where it is looked for.",
    )

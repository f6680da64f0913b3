"""Many kills in few runs: whoever is killed is followed by one that is killed further on, until the run has ended.

What always holds: each kill is one by SIGKILL at the place it was meant for; after each, and after each run, what must
hold is asked again. A run with many kills is as long as its rounds, where a run for each kill is mostly the rounds
that nobody disturbs; and who is killed has itself followed one that was. `make ledgers` asks for fifty kills a place,
`make test` for one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.support import start_run
from tests.faults.test_matrix import Rehearsal
from tests.integration.coordinator.support import ENDED, World
from tests.support.daemons import Daemon
from tests.support.federation import until

KILLS = int(os.environ.get("HELIOSDB_LEDGER_KILLS", "1"))

Check = Callable[[], None]


@dataclass(frozen=True)
class Places:
    """Where processes are killed: at a point, and which time they reach it; changing from kill to kill.

    first: of those that begin a run. later: of those that follow one that was killed, each far enough on that the run
    has gone on.
    """

    point: str
    first: tuple[int, ...]
    later: tuple[int, ...]

    def fault(self, killed: int, *, follows: bool) -> str:
        """As HELIOSDB_FAULTS has it; nothing, where enough were killed. killed: how many were."""
        counts = self.later if follows else self.first
        return f"{self.point}:{counts[killed % len(counts)]}=kill" if killed < KILLS else ""


async def kill_coordinators(
    rehearsal: Rehearsal, places: Places, *, after_run: Check, after_kill: Check = lambda: None
) -> None:
    """Kill as many coordinators as are asked for."""
    killed = 0
    while killed < KILLS:
        before = killed
        start_run(rehearsal.world)
        coordinator = rehearsal.lead(faults=places.fault(killed, follows=False))
        while await _dies(rehearsal.world, coordinator.process):
            killed += 1
            after_kill()
            coordinator = rehearsal.lead(faults=places.fault(killed, follows=True))
        coordinator.kill()
        _tell(places, before, killed)
        after_run()


async def kill_nodes(
    rehearsal: Rehearsal, places: Places, *, after_run: Check, after_kill: Check = lambda: None
) -> None:
    """Kill the first site's node as often as is asked for."""
    site, killed = rehearsal.world.sites[0], 0
    while killed < KILLS:
        before = killed
        await rehearsal.bring(site, faults=places.fault(killed, follows=False))
        coordinator = rehearsal.lead()
        await rehearsal.all_active()
        start_run(rehearsal.world)
        while site.process is not None and await _dies(rehearsal.world, site.process.process):
            killed += 1
            after_kill()
            await rehearsal.bring(site, faults=places.fault(killed, follows=True))
        coordinator.kill()
        _tell(places, before, killed)
        after_run()


async def _dies(world: World, process: Daemon) -> bool:
    """Wait for the fault to end the process; False where the run ends before."""
    with world.catalog() as connection:

        def over() -> bool:
            world.check_processes()
            return process.poll() is not None or bool(connection.execute(ENDED).fetchall())

        await until(over)
        if connection.execute(ENDED).fetchall():
            return False
    assert process.returncode == -signal.SIGKILL
    return True


def _tell(places: Places, before: int, killed: int) -> None:
    """Say what was done, for whoever reads what went wrong; AssertionError where a run was not disturbed."""
    print(f"{places.point}: {killed - before} kills in a run, {killed} of {KILLS}")
    assert killed > before

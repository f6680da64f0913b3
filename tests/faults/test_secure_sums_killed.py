"""SIGKILL between the messages of a secure sum: the model is what it was, and no secret of a sum serves in two.

A campaign has fifty kills at each point, in changing sums of its runs (`make ledgers`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from heliosdb.aggregation.secure_keys import KEYS_BYTES, STAGES, Keys
from heliosdb.aggregation.secure_sum import SECURE_SUM
from heliosdb.transport.sealing import SealingKey
from heliosdb.transport.update_messages import decode_update_header, unpack_signed_header
from tests.faults.campaign import Places, kill_coordinators, kill_nodes
from tests.faults.matrix import Kind
from tests.faults.test_matrix import Rehearsal, demand_the_same, rehearse
from tests.integration.coordinator.support import Site, World, make_world
from tests.support.cluster import Cluster

KIND = Kind({"rounds": 2, "secure_aggregation": True}, sums=True)
SUMS = 4
"""As many at least are in each run: statistics, two of training, an evaluation."""

KEEP_MESSAGES = """
    CREATE TABLE public.said (round_number integer, exchange integer, header bytea, payload bytea);
    CREATE FUNCTION public.keep_said() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO public.said VALUES (NEW.round_number, NEW.exchange, NEW.header, NEW.payload);
        RETURN NULL;
    END $$;
    CREATE TRIGGER keep_said AFTER INSERT ON federated.release
        FOR EACH ROW WHEN (NEW.is_message) EXECUTE FUNCTION public.keep_said();
"""
"""A node keeps the bytes of a message until its run has moved on."""


@dataclass
class Campaign:
    """All kills of a federation. stated: the keys of every sum so far, by the node that stated them."""

    rehearsal: Rehearsal
    stated: set[bytes] = field(default_factory=set)

    def demand(self) -> None:
        """A run has left what it leaves undisturbed, and used no secret that one before it had."""
        demand_the_same(self.rehearsal)
        self.demand_new_keys()

    def demand_new_keys(self) -> None:
        """Each sum since the last call has keys of its own, and a node stated them once."""
        for site in self.rehearsal.world.sites:
            keys = stated_keys(self.rehearsal.world, site)
            assert len(keys) >= SUMS
            for one in keys:
                parts = {one.mask_key, one.share_key, one.commitment}
                assert parts.isdisjoint(self.stated)
                self.stated |= parts


def stated_keys(world: World, site: Site) -> list[Keys]:
    """What a node released as keys since the last call, opened with the coordinator's key."""
    directory = world.federation.directory / "coordinator-state"
    sealing = SealingKey.load_or_create(directory / "sealing.key")
    with world.cluster.connect(site.database) as connection:
        said = connection.execute("DELETE FROM public.said RETURNING *").fetchall()
    sums = [(number, exchange) for number, exchange, _, _ in said]
    assert len(set(sums)) == len(sums)
    found = []
    for _, exchange, packed, payload in said:
        if exchange % STAGES == 0:
            header = decode_update_header(unpack_signed_header(packed)[0])
            opened = sealing.open(payload, header.ephemeral_key, header.key, header.task_sha256)
            found.append(Keys(opened[-KEYS_BYTES:]))
    return found


@pytest.fixture(scope="module")
def campaign(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """One federation for all kills."""
    database = cluster.create_database("federated_template")
    with make_world(cluster, tmp_path_factory.mktemp("sums"), database) as world:
        rehearsal = asyncio.run(rehearse(world, KIND))
        for site in world.sites:
            with cluster.connect(site.database) as connection:
                connection.execute(KEEP_MESSAGES)
        yield Campaign(rehearsal)


def places(point: str, *, repeated: int) -> pytest.MarkDecorator:
    """The point after the shares are told, the vector is masked, and the sum is unmasked; in one sum after
    another. repeated: how often one that follows reaches the point again where the one before it was killed."""
    names = [stage.name for stage in SECURE_SUM.stages]
    cases = []
    for stage in ("shares", "masked", "unmask"):
        first = tuple(1 + names.index(stage) + STAGES * sums for sums in range(SUMS))
        cases.append(pytest.param(Places(point, first, (STAGES + repeated,)), id=stage))
    return pytest.mark.parametrize("places", cases)


@places("node.release.committed", repeated=0)
async def test_a_node_that_is_killed_in_a_sum_goes_on_with_the_secrets_it_had(
    campaign: Campaign, places: Places
) -> None:
    await kill_nodes(campaign.rehearsal, places, after_run=campaign.demand)


@places("coordinator.aggregated", repeated=1)
async def test_a_coordinator_that_is_killed_in_a_sum_is_followed_by_one_that_opens_the_same(
    campaign: Campaign, places: Places
) -> None:
    await kill_coordinators(campaign.rehearsal, places, after_run=campaign.demand)

"""A coordinator that asks one node for plain answers, for tests of what it gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from heliosdb.algorithms.works import StatisticsWork
from heliosdb.domain.errors import ErrorCode
from heliosdb.domain.task import Task
from heliosdb.transport.client import NodeClient
from heliosdb.transport.messages import NodeRefusedError
from tests.support.federation import READING, Federation, new_run, statistics_task

TIMEOUT = 180.0


def about(**changes: Any) -> Task:
    """A plain task of round 0 that reads something else."""
    reading = replace(READING, **changes)
    work = StatisticsWork("logistic_regression", None, classes=2).to_work(len(reading.features))
    return replace(statistics_task(run=new_run()), reading=reading, work=work)


class Asker:
    """A coordinator that asks one node."""

    def __init__(self, client: NodeClient, federation: Federation) -> None:
        self.client, self.federation = client, federation

    async def ask(self, task: Task) -> np.ndarray:
        return (await self.client.perform(task, self.federation.sealing, TIMEOUT)).vector

    async def statistics(self, **changes: Any) -> np.ndarray:
        return await self.ask(about(**changes))

    async def refusal(self, task: Task) -> NodeRefusedError:
        with pytest.raises(NodeRefusedError) as raised:
            await self.ask(task)
        assert raised.value.reason is ErrorCode.NODE_REFUSED
        return raised.value

    async def refused_statistics(self, **changes: Any) -> str:
        return (await self.refusal(about(**changes))).message

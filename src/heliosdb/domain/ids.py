"""Names of things, as types: one NewType per noun, so that a node's name cannot pass for a model's."""

from __future__ import annotations

from typing import NewType
from uuid import UUID

WorkspaceName = NewType("WorkspaceName", str)
NodeName = NewType("NodeName", str)
ModelName = NewType("ModelName", str)
DatasetName = NewType("DatasetName", str)
SubscriptionName = NewType("SubscriptionName", str)
RunId = NewType("RunId", UUID)
OrderId = NewType("OrderId", UUID)
VersionKey = NewType("VersionKey", UUID)
RoundNumber = NewType("RoundNumber", int)
StepName = NewType("StepName", str)
Epoch = NewType("Epoch", int)

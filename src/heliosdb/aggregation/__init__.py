"""How the updates of an exchange come together: sums, strategies, sum protocols and how far updates agree.

What always holds: results are the same to the bit whatever the order of arrival; nothing here knows a step.
"""

from heliosdb.aggregation.agreement import Agreement, AgreementMeter, measure_agreement
from heliosdb.aggregation.gathering import (
    EachGathering,
    Gathering,
    SumGathering,
    WeightedGathering,
    gathering_for,
)
from heliosdb.aggregation.strategy import Strategy, check_fits, companions, strategy
from heliosdb.aggregation.sums import Shape, Stage, SumProtocol, protocol
from heliosdb.aggregation.updates import check_update

__all__ = [
    "Agreement",
    "AgreementMeter",
    "EachGathering",
    "Gathering",
    "Shape",
    "Stage",
    "Strategy",
    "SumGathering",
    "SumProtocol",
    "WeightedGathering",
    "check_fits",
    "check_update",
    "companions",
    "gathering_for",
    "measure_agreement",
    "protocol",
    "strategy",
]

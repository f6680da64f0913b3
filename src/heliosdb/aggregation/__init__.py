"""How updates combine, and when a run has converged: pure, deterministic to the bit.

Importing this package registers the strategies that are built.
"""

from heliosdb.aggregation.agreement import Agreement, measure_agreement
from heliosdb.aggregation.fedavg import FedAvg
from heliosdb.aggregation.registry import names, register, strategy
from heliosdb.aggregation.updates import OversizedUpdateError, Update, check_norm, check_update, norm, total

register(FedAvg())

__all__ = [
    "Agreement",
    "FedAvg",
    "OversizedUpdateError",
    "Update",
    "check_norm",
    "check_update",
    "measure_agreement",
    "names",
    "norm",
    "register",
    "strategy",
    "total",
]

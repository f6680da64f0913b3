"""Local training of a neural network by PyTorch: the only module that needs it, and only at a node.

What always holds: the new parameters are a function of the arguments and the generator alone, bit for bit on
one machine with one device and number of threads: nothing is drawn by PyTorch, and its operations are
deterministic ones. Numbers are float32.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.architecture import Architecture
from heliosdb.algorithms.local_terms import NO_TERMS, LocalTerms
from heliosdb.algorithms.optimizers import ADAM_DECAYS, ADAM_EPSILON, worth_of
from heliosdb.algorithms.sgd import batches, check_finite
from heliosdb.domain.descent import MOMENTUM
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.vector import AnyVector
from heliosdb.parts.algorithms import LocalOptimizer
from heliosdb.parts.extras import how_to_install

log = logging.getLogger(__name__)

Inputs = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Descent:
    """How a network is trained. terms: what the run's aggregation adds to the objective."""

    epochs: int
    batch_size: int
    optimizer: LocalOptimizer
    learning_rate: float
    terms: LocalTerms = NO_TERMS


@cache
def load_torch() -> tuple[ModuleType, Any]:
    """Return PyTorch and the one device that this process computes on: a GPU if there is one.

    FederatedError NOT_SUPPORTED where PyTorch is not installed.
    """
    # Read by CUDA's library when it is first used: without it sums on a GPU come in any order.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Its compiler, which is not used, makes this directory when it is imported; who is confined makes none.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.gettempdir())
    try:
        import torch
    except ImportError as error:
        raise FederatedError(
            ErrorCode.NOT_SUPPORTED,
            "neural networks cannot be trained at this node: PyTorch cannot be loaded",
            hint=how_to_install("neural"),
        ) from error
    torch.use_deterministic_algorithms(True)
    # The node's max_cpu_cores. By itself PyTorch would take all cores, on which sums depend.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    return torch, choose_device(torch)


def choose_device(torch: Any) -> Any:
    """Return the GPU where there is one that can be used, else the processor; the log says which."""
    if torch.cuda.is_available():
        try:
            device = torch.device("cuda")
            torch.zeros(1, device=device)
            log.info("neural networks are trained on a GPU, %s", torch.cuda.get_device_name(device))
            return device
        except RuntimeError as error:
            # Most often for want of address space: max_memory_gb bounds it.
            log.warning("the GPU cannot be used: %s", str(error).partition("\n")[0])
    log.info("neural networks are trained by %d threads of the processor", torch.get_num_threads())
    return torch.device("cpu")


def train_network(
    architecture: Architecture,
    parameters: AnyVector,
    inputs: Inputs,
    targets: AnyVector,
    *,
    descent: Descent,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Return the parameters after some epochs of mini-batch descent; (k,) → (k,).

    inputs: (n, d), scaled. targets: (n,), scaled numbers, or indices of classes. Each epoch shuffles the rows
    anew; a batch's gradient is its mean, rows that fill no batch join the others. Raises FederatedError
    (UF003) where the parameters cease to be finite, NOT_SUPPORTED without PyTorch.
    """
    torch, device = load_torch()
    kind = torch.int64 if architecture.output == "softmax" else torch.float32
    rows = torch.from_numpy(np.require(inputs, requirements=["C", "W"])).to(device)
    wanted = torch.from_numpy(np.array(targets)).to(device, kind)
    current = torch.from_numpy(np.array(parameters, dtype=np.float32)).to(device)
    leaves = [one.detach().requires_grad_() for one in architecture.leaves(current)]
    move, finish = _mover(torch, descent, current), _finisher(torch, descent, current)
    for _ in range(descent.epochs):
        order = torch.from_numpy(rng.permutation(len(rows))).to(device)
        for first, last in batches(len(rows), descent.batch_size):
            chosen = order[first:last]
            loss = _loss(torch, architecture, leaves, rows[chosen], wanted[chosen])
            slopes = torch.cat([one.reshape(-1) for one in torch.autograd.grad(loss, leaves)])
            move(slopes)
            finish()
        check_finite(current.cpu().numpy())
    moved: NDArray[np.float32] = current.cpu().numpy()
    return moved


def _loss(torch: Any, architecture: Architecture, leaves: list[Any], rows: Any, wanted: Any) -> Any:
    functional, values = torch.nn.functional, architecture.pass_through(torch, leaves, rows)
    match architecture.output:
        case "softmax":
            return functional.cross_entropy(values, wanted)
        case "sigmoid":
            return functional.binary_cross_entropy_with_logits(values[:, 0], wanted)
        case _:
            return 0.5 * torch.mean(torch.square(values[:, 0] - wanted))


def _mover(torch: Any, descent: Descent, current: Any) -> Callable[[Any], None]:
    """Return what moves the parameters by a gradient, in place; as algorithms/optimizers.py in float64."""
    rate = descent.learning_rate
    if descent.optimizer == "sgd":
        return lambda slopes: current.sub_(slopes, alpha=rate)
    first = torch.zeros_like(current)
    if descent.optimizer == "momentum":

        def by_momentum(slopes: Any) -> None:
            first.mul_(MOMENTUM).add_(slopes)
            current.sub_(first, alpha=rate)

        return by_momentum
    second, steps = torch.zeros_like(current), 0
    decay, decay_square = ADAM_DECAYS

    def by_adam(slopes: Any) -> None:
        nonlocal steps
        steps += 1
        first.lerp_(slopes, 1.0 - decay)
        second.mul_(decay_square).addcmul_(slopes, slopes, value=1.0 - decay_square)
        divisor = second.div(1.0 - decay_square**steps).sqrt_().add_(ADAM_EPSILON)
        current.addcdiv_(first, divisor, value=-rate / (1.0 - decay**steps))

    return by_adam


def _finisher(torch: Any, descent: Descent, current: Any) -> Callable[[], None]:
    """Return what the aggregation makes of the parameters after a step, in place; as `LocalTerms.apply`."""
    terms, rate, start = descent.terms, descent.learning_rate, current.clone()
    correction = None
    if terms.correction is not None:
        correction = torch.from_numpy(terms.correction).to(current)
    taken = 0
    if terms.towards is not None:
        start = torch.from_numpy(np.array(terms.towards, dtype=np.float32)).to(current)

    def finish() -> None:
        nonlocal taken
        taken += 1
        worth = worth_of(descent.optimizer, rate, taken)
        if correction is not None:
            current.sub_(correction, alpha=worth)
        if pull := worth * terms.proximal:
            current.add_(start, alpha=pull).div_(1.0 + pull)

    return finish

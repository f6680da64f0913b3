"""What of a model stays at each node, told from options alone: where START is typed, and when a run is read.

What always holds: nothing here imports numpy; a run that passes has a personal part that its nodes can make,
keep and predict with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from heliosdb.domain.errors import FederatedError, invalid_value, not_supported
from heliosdb.domain.run import TrainingOptions, seals_prediction
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import ALGORITHMS, NetworkSettings, by_newton
from heliosdb.parts.protocols import PLAIN
from heliosdb.parts.strategies import STRATEGIES, ScaffoldSettings

Personalization = Literal["fine_tune", "local_head", "ditto"]

_WAYS: Mapping[str, Personalization] = {
    "fine_tune": "fine_tune",
    "local_head": "local_head",
    "ditto": "ditto",
}

_DEFAULTS: Mapping[str, tuple[str, Any]] = {
    "personal_epochs": ("fine_tune", 5),
    "local_layers": ("local_head", 1),
    "personal_term": ("ditto", 0.1),
}
"""Of each option that says how, which way of personalization reads it, and what it is where it is not
given."""


@dataclass(frozen=True, slots=True)
class Personal:
    """How each node comes to a model of its own. way: fine_tune goes on from the published version for so
    many epochs; local_head keeps the last so many layers at the node; ditto trains a model beside the
    federation's, pulled towards it by the term."""

    way: Personalization
    epochs: int = 0
    layers: int = 0
    term: float = 0.0

    @property
    def goes_along(self) -> bool:
        """Whether it is trained in every round, and a node keeps it from one to the next."""
        return self.way != "fine_tune"


@dataclass(frozen=True, slots=True)
class PersonalTerms:
    """What a workspace says that bears on it. private: whether it has a budget; is_asynchronous: its rounds;
    compliance_mode: by which predictions may be sealed."""

    private: bool
    is_asynchronous: bool
    compliance_mode: str


def personal_of(options: TrainingOptions) -> Personal | None:
    """Return what a run's nodes keep for themselves; None where that is nothing."""
    given = options.given
    way: Personalization | None = _WAYS.get(given.get("personalization") or "none")
    if way is None:
        return None
    epochs, layers, term = (
        _or_default(given, name, way) for name in ("personal_epochs", "local_layers", "personal_term")
    )
    return Personal(way, int(epochs), int(layers), float(term))


def local_layers(options: TrainingOptions) -> int | None:
    """Return how many of the last layers are each node's own; None for none."""
    personal = personal_of(options)
    return None if personal is None else personal.layers or None


def _or_default(given: Mapping[str, Any], name: str, way: str) -> Any:
    whose, default = _DEFAULTS[name]
    if way != whose:
        return 0
    return default if given.get(name) is None else given[name]


def check_personal(options: TrainingOptions, terms: PersonalTerms) -> list[str]:
    """Raise FederatedError where nodes cannot keep such a part: INVALID_VALUE where it would be none,
    NOT_SUPPORTED where that is not built. Returns what START says of it."""
    given, personal = options.given, personal_of(options)
    for name, (whose, _) in _DEFAULTS.items():
        if given.get(name) is not None and (personal is None or personal.way != whose):
            raise invalid_value(
                f"{name} has no effect without personalization = '{whose}'",
                hint=f"Leave it out, or choose personalization = '{whose}'.",
            )
    if "personalization" in (given.get("search") or {}) or (personal is not None and given.get("search")):
        raise not_supported(
            "personalization is not supported with search yet",
            hint="Search first; then train with what was found, and with personalization.",
        )
    if personal is None:
        return []
    _check_way(options, personal)
    _check_terms(options, terms)
    if personal.goes_along:
        _check_rounds(options, personal)
    return _said(personal)


def _check_way(options: TrainingOptions, personal: Personal) -> None:
    """Refuse what the algorithm has no personal part of."""
    settings = ALGORITHMS.entry(options.algorithm).settings
    ways: tuple[str, ...] = getattr(settings, "personalizes", ())
    if by_newton(options.algorithm, options.given):
        raise invalid_value(
            f"personalization = '{personal.way}' has no effect with optimizer newton",
            detail="A node comes to its own model by descent over its own rows.",
            hint="Train with optimizer = 'sgd', 'momentum' or 'adam'.",
        )
    if personal.way not in ways:
        can = f"{options.algorithm} has {_listed(ways)}" if ways else None
        raise _not_of(options.algorithm, personal.way, can)
    if personal.way == "local_head":
        _check_layers(options, personal)


def _not_of(algorithm: str, way: str, can: str | None) -> FederatedError:
    return not_supported(
        f"personalization = '{way}' is not supported with {algorithm}",
        detail=can and f"Of these ways {can}.",
        hint="Leave personalization out, or choose another algorithm or way."
        " logistic_regression, linear_regression, poisson_regression, neural_network and cnn are fine-tuned.",
    )


def _check_layers(options: TrainingOptions, personal: Personal) -> None:
    if options.given.get("freeze_layers"):
        raise not_supported("personalization = 'local_head' is not supported with freeze_layers yet")
    layers = options.settings(NetworkSettings).layers
    if personal.layers >= len(layers):
        raise invalid_value(
            f"local_layers is {personal.layers}, and the network has {counted(len(layers), 'layer')}",
            detail="Of a network of which every layer stays at the nodes nothing would be learned together.",
            hint=f"Keep at most {len(layers) - 1}."
            if len(layers) > 1
            else "Give the model more layers, or choose personalization = 'fine_tune' or 'ditto'.",
        )


def _check_terms(options: TrainingOptions, terms: PersonalTerms) -> None:
    """Refuse with what the personal part, or the look at it, is not built."""
    if terms.private:
        raise not_supported(
            "personalization is not supported under a privacy_budget yet",
            detail="The personal part never leaves its node; how good it is would, and has no private form.",
            hint="Train in a workspace without a privacy_budget, or leave personalization out.",
        )
    if options.protocol != PLAIN:
        raise not_supported(
            "personalization is not supported with secure_aggregation yet",
            detail="How good each node's own model is is told node by node.",
            hint="Leave one of both out.",
        )
    if terms.is_asynchronous:
        raise not_supported("personalization is not supported with async_aggregation yet")
    if options.given.get("voting_groups"):
        raise not_supported("personalization is not supported with voting_groups yet")
    if seals_prediction(options.given, terms.compliance_mode):
        raise not_supported(
            "personalization is not supported with prediction = 'sealed' yet",
            detail="A node predicts with its own part by its subscription; sealed versions do not travel.",
            hint="Set prediction = 'inline', or leave personalization out.",
        )


def _check_rounds(options: TrainingOptions, personal: Personal) -> None:
    """Refuse beside what else nodes keep from round to round."""
    settings = STRATEGIES.entry(options.aggregation).settings
    beside = f"personalization = '{personal.way}' is not supported"
    if issubclass(settings, ScaffoldSettings):
        raise not_supported(
            f"{beside} with aggregation {options.aggregation} yet",
            hint="Choose another aggregation, or personalization = 'fine_tune'.",
        )
    if options.given.get("adaptive_learning"):
        raise not_supported(
            f"{beside} with adaptive_learning yet",
            hint="Leave adaptive_learning out, or choose personalization = 'fine_tune'.",
        )


def _said(personal: Personal) -> list[str]:
    if personal.way != "local_head":
        return []
    return [
        f"the last {'layer stays' if personal.layers == 1 else f'{personal.layers} layers stay'} at each"
        " node: away from a node that took part the version predicts with those that the seed gave, which"
        " have learned nothing"
    ]


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)

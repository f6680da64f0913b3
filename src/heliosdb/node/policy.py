"""What a node answers at all, decided from the task and the catalog before a row is read.

What always holds: nothing here depends on rows, so that a refusal tells nothing of them; whatever can be
told of a task without its rows is told here, before anything is charged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from federated_sql.compliance import allows_site_plain_answers
from heliosdb.algorithms.certifying import CERTIFY, CERTIFY_STEP
from heliosdb.algorithms.encoding import learns_classes, task_classes
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.steps import ClipsSums, Step, adds_own_noise, reads_columns
from heliosdb.catalog.participant import NeverPlain, PlainTerms, RowsRead, SharedDataset
from heliosdb.domain.datasets import kind_of
from heliosdb.domain.declared_shapes import IMAGE_CHANNELS
from heliosdb.domain.disclosure_rules import NO_FLOORS
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Form
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value, not_supported
from heliosdb.domain.handshake import DatasetDescription
from heliosdb.domain.privacy import Mechanism, Noise
from heliosdb.domain.task import Task
from heliosdb.domain.transforms import BINNED, HASHED
from heliosdb.domain.wording import counted
from heliosdb.node.datasets import MOST_FIELDS
from heliosdb.node.sum_terms import check_rounded, check_shared
from heliosdb.node.summing import is_open, stage_of
from heliosdb.parts.algorithms import check_noise, check_private
from heliosdb.parts.extras import how_to_install, installed_extras
from heliosdb.transport import limits
from heliosdb.transport.codecs import check_coding

_BESIDE_KEPT = 1 << 16
"""Bytes of a node's memory of a run that are not what it keeps of an update."""

MOST_HELD_OUT = 0.5
"""The largest validation_split: beyond it a model would be measured on more subjects than it learns from."""


def refused(message: str, *, hint: str | None = None) -> FederatedError:
    """The node's own word: it does not answer this task."""
    return FederatedError(ErrorCode.NODE_REFUSED, message, hint=hint)


def failure() -> FederatedError:
    """All that is said of a task that was charged and cannot be computed: why may depend on a row."""
    return FederatedError(
        ErrorCode.INTERNAL,
        "the node charged the task and could not compute its answer",
        hint="The node's own log says why.",
    )


def asked_mechanism(task: Task) -> Mechanism | None:
    """The mechanism that a task asks for, or None where it asks for a plain answer."""
    return None if task.work.privacy is None else task.work.privacy.mechanism


def noise_of(task: Task) -> Noise:
    """How the noise is distributed that a task asks for; of a plain one it is of no meaning."""
    mechanism = asked_mechanism(task)
    return "gaussian" if mechanism is None else mechanism.noise


def public_weight(task: Task) -> float | None:
    """The weight of a private answer, which the coordinator knows already; None for a plain one."""
    return None if task.work.privacy is None else task.work.privacy.weight


def find_step(task: Task) -> Step:
    """The step that a task asks for; FederatedError NOT_SUPPORTED where there is none of that name."""
    steps = algorithm(task.work.algorithm).steps
    # A vote is of models of any kind, so one step looks at all of them.
    step = CERTIFY_STEP if task.key.step == CERTIFY else steps.get(task.key.step)
    if step is None:
        raise not_supported("the task is of a kind that this node does not know")
    return step


def check_policy(
    task: Task, dataset: SharedDataset, *, plain_answers: bool, site: Mapping[str, float] = NO_FLOORS
) -> None:
    """FederatedError where the task may not be answered, or cannot be, whatever its rows.

    A message of a sum protocol is refused wherever the vector is that it prepares, but for what the state
    alone shows where the message is without it. plain_answers: the site's setting, for datasets whose DBA has
    not said. site: its word about rules of plain answers, by their names.
    """
    if task.budget is not None:
        check_private(task.work.algorithm)
        check_noise(task.work.algorithm, {}, noise_of(task))
    step = find_step(task)
    if noise_of(task) not in getattr(step, "noises", ("gaussian",)):
        raise not_supported(f"step {step.name} has no form with {noise_of(task)} noise")
    is_whole = not task.work.summing.state_sha256
    if is_whole:
        step.check(task)
    check_columns(task)
    stage_of(task)
    check_travelling(task, step)
    private = asked_mechanism(task) is not None
    if (private or not is_open(task)) and not task.work.dtype.is_real:
        raise invalid_value("only real numbers get noise or are summed by a protocol")
    check_shared(task, step)
    check_rounded(task, step)
    if task.reading.validation_split > MOST_HELD_OUT:
        raise refused(f"validation_split may be at most {MOST_HELD_OUT:g}")
    if task.budget is not None and not private:
        raise refused("the task asks for a plain answer although the workspace has a privacy budget")
    if task.budget is None and private:
        raise refused("the task asks for noise although the workspace has no privacy budget")
    if private and not (adds_own_noise(step) or isinstance(step, ClipsSums)):
        raise not_supported(f"step {step.name} does not say what a data subject adds to a private answer")
    if not private:
        _check_allowed(task, dataset, plain_answers=plain_answers)
        if is_whole:
            _check_least(task, step, dataset, dataset.rules.within(site).min_rows)


def check_travelling(task: Task, step: Step) -> None:
    """FederatedError where less than all of what is no update is asked for, or more would have to be kept of
    one than the node remembers of a run."""
    work = task.work
    check_coding(work.coding)
    if work.coding.is_lossy and (step.gathers != "rule" or not is_open(task)):
        raise invalid_value("only updates that a rule combines are rounded, or sent in part")
    kept = work.size * work.dtype.itemsize
    if work.coding.sent is not None and kept > limits.MAX_VECTOR_BYTES - _BESIDE_KEPT:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT,
            "the node would have to remember too much of the run",
            detail=f"Of an update that is sent in part it keeps {kept} bytes.",
            hint="Leave gradient_sparsification and top_k out.",
        )


def _check_allowed(task: Task, dataset: SharedDataset, *, plain_answers: bool) -> None:
    allowed = dataset.plain_answers
    if allowed is None:
        allowed = plain_answers and allows_site_plain_answers(task.compliance_mode)
    if not allowed:
        mode = "" if task.compliance_mode == "none" else f" under compliance_mode {task.compliance_mode}"
        raise refused(
            f'dataset "{dataset.name}" gives no answers without noise{mode}',
            hint="Give the workspace a privacy_budget; or have the node's own DBA "
            "ALTER FEDERATED DATASET ... SET (plain_answers = true).",
        )


def _check_least(task: Task, step: Step, dataset: SharedDataset, min_rows: int) -> None:
    least = step.least_rows(task)
    if least is not None and least < min_rows:
        raise refused(
            f"an answer's smallest step has {counted(least, 'row')}, fewer than min_rows = {min_rows}"
            f' of dataset "{dataset.name}"',
            hint="A step over fewer rows would tell too much of them. Raise batch_size, or use a budget.",
        )


def check_not_paused(dataset: SharedDataset) -> None:
    """FederatedError NODE_REFUSED while the dataset's DBA has it paused."""
    if dataset.paused:
        raise refused(
            f'dataset "{dataset.name}" is paused by its DBA',
            hint="The node's own DBA resumes it: ALTER FEDERATED DATASET ... SET (paused = false).",
        )


def check_never_plain(found: NeverPlain, dataset: SharedDataset) -> None:
    """FederatedError NODE_REFUSED where a plain answer would undo what was spent, or pass a ceiling."""
    if found.has_ceiling:
        raise refused(
            f'the table of dataset "{dataset.name}" has a max_epsilon, and the workspace no privacy budget',
            hint="Give the workspace a privacy_budget.",
        )
    if found.has_spent:
        raise refused(
            f'the table of dataset "{dataset.name}" has spent a privacy budget, '
            "which a plain answer would undo"
        )


def plain_terms(task: Task) -> bytes | None:
    """The hash of what a run's plain answers are about, with a scaling or without one; None where the task
    measures: in round 0, before there is a scaling."""
    if task.scaling is None and task.key.round == 0:
        return None
    # The text of frozen dataclasses of numbers and names is exact: floats are written to the last bit.
    about = repr((task.reading, task.work.algorithm, task.encoding, task.scaling))
    return hashlib.sha256(about.encode()).digest()


def check_plain_terms(task: Task, dataset: SharedDataset, terms: PlainTerms) -> None:
    """FederatedError NODE_REFUSED where scaling, rows or columns are not those of the run's own round 0.

    A coordinator that could choose them anew in each task would choose those that single a row out.
    """
    own = plain_terms(task)
    if own is None:
        return
    if dataset.name not in terms.measured:
        raise refused(
            f'the run has not asked for the statistics of dataset "{dataset.name}", '
            "with which it has to begin"
        )
    if terms.terms - {own}:
        raise refused("the task is about other rows, columns or scaling than its run was before")


def check_same_rows(read: RowsRead, dataset: SharedDataset, terms: PlainTerms, *, accepted: bool) -> None:
    """FederatedError NODE_REFUSED where a plain answer was computed from other rows than its run's before.

    A run's rows are read once and kept; they are read again where that memory was needed, or lost, and where
    other subjects are left out than before. accepted: whether the dataset's DBA lets plain answers go on
    then.
    """
    others = terms.rows_read - {read}
    if any(one.admission == read.admission for one in others):
        raise refused(
            f'the rows of dataset "{dataset.name}" have changed since the run first read them, '
            "and the node no longer holds those",
            hint="Start a new run. With more max_memory_gb a node holds the rows of more runs at once.",
        )
    if others and not accepted:
        raise refused(
            f'data subjects of dataset "{dataset.name}" were withdrawn since the run first read its rows',
            hint="Start a new run. The node's own DBA may let runs go on without them: SELECT"
            " federated_accept_withdrawals('...'), or the dataset's plain_withdrawals.",
        )


def too_many_datasets(dataset: SharedDataset, most: int) -> FederatedError:
    """The error where as many other datasets over the same tables have had answers without noise."""
    return refused(
        f'dataset "{dataset.name}" would be one more over its tables than the max_datasets = {most} that get'
        " answers without noise",
        hint="Each choice of rows or columns is one more look at the same people. Use a dataset that has had"
        " answers; or a privacy_budget.",
    )


def check_populated(dataset: SharedDataset, unpopulated: frozenset[int]) -> None:
    """FederatedError WRONG_STATE for a materialized view that holds nothing, which the catalog says."""
    if dataset.dataset_id in unpopulated:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f'dataset "{dataset.name}" cannot be read (55000 object_not_in_prerequisite_state): '
            "its materialized view is not populated",
            hint="The node's own DBA refreshes it: REFRESH MATERIALIZED VIEW.",
        )


def find_misread(dataset: DatasetDescription, task: Task) -> FederatedError | None:
    """The error for a column that is not of the kind that the task reads it as, None where all are.

    A target is a number, or a category whose classes the task knows or asks for; what has a role is a number.
    """
    reading, encoding = task.reading, task.encoding
    wanted = [ColumnKind.NUMBER] * len(reading.features)
    if encoding is not None:
        wanted = [column.kind for column in encoding.columns]
    for role, column in reading.roles:
        if kind_of(dataset.type_of(column)) not in _NUMBERS:
            return not_supported(
                f'column "{column}" of dataset "{dataset.name}" has type {dataset.type_of(column)}; the'
                f" {role} column must be numeric or boolean"
            )
    for column, kind in zip(reading.features, wanted, strict=True):
        own = kind_of(dataset.type_of(column))
        if own is None or not _fits(own, kind):
            return not_supported(
                f'column "{column}" of dataset "{dataset.name}" has type {dataset.type_of(column)}, and the'
                f" task reads it as {kind}"
            )
    own, named = kind_of(dataset.type_of(reading.target)), task_classes(task)
    if own in _NUMBERS or (own is ColumnKind.CATEGORY and (named or learns_classes(task))):
        return None
    role = "a number or a category" if learns_classes(task) else "a number"
    return not_supported(
        f'column "{reading.target}" of dataset "{dataset.name}" has type '
        f"{dataset.type_of(reading.target)}; the target must be {role}"
    )


_NUMBERS = (ColumnKind.NUMBER, ColumnKind.BOOLEAN)


def _fits(own: ColumnKind, wanted: ColumnKind) -> bool:
    """Numbers and booleans go together, and each may be read as a category."""
    if own in _NUMBERS:
        return wanted in (*_NUMBERS, ColumnKind.CATEGORY)
    return own is wanted or (own, wanted) == (ColumnKind.CATEGORY, ColumnKind.TEXT)


def _check_arrays(task: Task, columns: Sequence[ColumnEncoding]) -> None:
    """FederatedError where a row with its arrays would be more columns of a query than there are: after the
    charge nothing may fail. How many numbers it may be, transport/limits.py says."""
    arrays = sum(column.kind.is_several for column in columns)
    # Beside elements a length and, at most, features, roles, a target and two codes.
    fields = len(task.reading.features) + len(task.reading.roles) + 3 + arrays
    if arrays and fields > MOST_FIELDS:
        raise invalid_value(
            f"a row would be {counted(fields, 'column')} of a query, and no more than {MOST_FIELDS} are read"
        )


def _check_images(columns: Sequence[ColumnEncoding]) -> None:
    """FederatedError for images that are files where no such file can be, or nothing here decodes them."""
    images = [column for column in columns if column.kind is ColumnKind.IMAGE]
    strange = next((one for one in images if one.shape[0] not in IMAGE_CHANNELS), None)
    if strange is not None:
        channels = counted(strange.shape[0], "channel")
        raise invalid_value(f'column "{strange.column}" is read as an image of {channels}')
    if images and "images" not in installed_extras():
        raise FederatedError(
            ErrorCode.NOT_SUPPORTED,
            f'column "{images[0].column}" cannot be read: this node lacks the extra "images"',
            hint=how_to_install("images"),
        )


def _is_bare(column: ColumnEncoding) -> bool:
    """Whether nothing is said of a text but into how many numbers it is hashed."""
    return column == ColumnEncoding(column.column, column.kind, column.form, elements=column.elements)


def check_columns(task: Task) -> None:
    """FederatedError where what a task says of columns does not hold together, or is not private.

    Under a budget each level that rows may have is in the task, and so is each class.
    """
    classes = task_classes(task)
    asked = task.work.settings.get("classes")
    if asked is not None and asked != len(classes):
        raise invalid_value(f"the task says classes = {asked}, and names {len(classes)}")
    columns = task.encoding.columns if task.encoding is not None else ()
    # Only the step that finds levels does not know them.
    of_levels: tuple[Form, ...] = ("value",) if reads_columns(find_step(task)) else ("indicators", "index")
    forms: dict[ColumnKind, tuple[Form, ...]] = {
        ColumnKind.CATEGORY: of_levels,
        ColumnKind.ARRAY: ("value",),
        ColumnKind.IMAGE: ("value",),
        ColumnKind.TEXT: ("hashed",),
    }
    for column in columns:
        binned = ("bins",) if column.kind in BINNED else ()
        if column.form not in forms.get(column.kind, ("value", "log1p", *binned)):
            raise invalid_value(
                f'column "{column.column}" of kind {column.kind} is not read as {column.form}'
            )
        if column.kind is ColumnKind.TEXT and not (HASHED.hold(column.elements) and _is_bare(column)):
            raise invalid_value(f'text "{column.column}" is not read as {counted(column.elements, "number")}')
    _check_images(columns)
    if asked_mechanism(task) is None:
        return
    if learns_classes(task) and not classes:
        raise invalid_value("the classes of the target are not known, as a privacy budget needs them")
    _check_arrays(task, columns)
    for column in columns:
        if column.kind is ColumnKind.ARRAY and column.elements == 1:
            raise not_supported("arrays of no declared length are not supported under a privacy_budget yet")
        if column.form == "bins":
            raise not_supported("bins are not supported under a privacy_budget yet")

"""What an aggregator is asked and answers: to the wire and back, and whatever it may lie about."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from heliosdb.aggregation.masked_sum import MaskedAdding, MaskedSum, masked_term
from heliosdb.aggregation.partial_sum import Adding, PartialGathering, PartialSum
from heliosdb.aggregation.summation import ExactSum
from heliosdb.aggregation.sums import Shape
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.limits import Limits
from heliosdb.domain.privacy import Mechanism, Spending
from heliosdb.domain.state import make_state
from heliosdb.domain.task import Privacy, Reading, Task, TaskKey, Work
from heliosdb.domain.update import Update
from heliosdb.domain.usage import Usage
from heliosdb.domain.vector import Dtype
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.authority import Authority
from heliosdb.transport.gather_messages import (
    Contact,
    GatheredNode,
    GatherRequest,
    SignedTask,
    SignedTerm,
    contact_bytes,
    gather_to_messages,
    receive_gather,
    told_to_messages,
)
from heliosdb.transport.gathering import AnySum, GatherCollector, GatheredSum, check_signed, close_sum
from heliosdb.transport.messages import EncodedState, ReceivedTask, encode_header, task_sha256
from heliosdb.transport.packing import close_update, encode_vector, open_term
from heliosdb.transport.sealing import SealingKey
from heliosdb.transport.update_messages import decode_update_header
from heliosdb.transport.verification import sign_contact, sign_task

AUTHORITY = Authority.create("authority")
COORDINATOR, TOP, STRANGER, *NODES = (
    AUTHORITY.issue(name, ["localhost"]) for name in ("coordinator", "top", "stranger", "b", "c", "d")
)
ROOT, OPENING, LOWER = SealingKey.generate(), SealingKey.generate(), SealingKey.generate()
B, C, D = (NodeName(name) for name in "bcd")
SIZE = 3
STATE = EncodedState.of(make_state(parameters=np.arange(3.0)))
MECHANISM = Mechanism(1.0, 0.1, 10)
KEY = TaskKey(WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(2), 1, StepName("train"), NodeName("top"))
ADDING = Adding(SIZE, Dtype.FLOAT64, False, 1, (1 << 64) - 5)


def task(node: NodeName, *, private: bool = False) -> Task:
    work = Work("a", SIZE, privacy=Privacy(MECHANISM, 2.0) if private else None)
    return Task(
        replace(KEY, node=node),
        Reading("t", ("x",), "y", 0.2, 5),
        work,
        state=make_state(parameters=np.arange(3.0)),
    )


def asked(node: NodeName, aggregator: str, sealing: SealingKey, **options: SealingKey) -> GatheredNode:
    header = encode_header(task(node), sealing.public, STATE)
    signed = SignedTask(header, sign_task(COORDINATOR, task_sha256(header)))
    contact = Contact(f"https://{node}:1", (NODES[0].certificate_pem,))
    vouched = sign_contact(COORDINATOR, contact_bytes(KEY.workspace, node, contact))
    return GatheredNode(node, NodeName(aggregator), contact, signed, vouched=vouched, **options)


NODES_ASKED = (asked(B, "top", OPENING, opening=LOWER), asked(C, "top", OPENING), asked(D, "b", LOWER))
REQUEST = GatherRequest(
    KEY, Shape(SIZE, Dtype.FLOAT64), ADDING, OPENING, ROOT.public, 8.0, NODES_ASKED, STATE
)


def request(**changes: object) -> GatherRequest:
    return replace(REQUEST, **changes)  # type: ignore[arg-type]


def messages(asking: GatherRequest) -> list[bytes]:
    return [raw for _, raw in gather_to_messages(asking)]


async def received(raw: Sequence[bytes]) -> GatherRequest:
    async def stream() -> AsyncIterator[bytes]:
        for one in raw:
            yield one

    return await receive_gather(stream())


def limited(one: GatheredNode, limits: Limits) -> GatheredNode:
    return replace(one, contact=replace(one.contact, limits=limits))


def test_what_is_asked_of_an_aggregators_machine_goes_down_to_it() -> None:
    lower = limited(NODES_ASKED[0], Limits(2.0, 3, 10.0))
    [(contact, below)] = request(nodes=(lower, *NODES_ASKED[1:])).below(4.0)

    assert contact.limits == below.limits == Limits(2.0, 3, 10.0)


async def test_a_request_arrives_as_it_was_made() -> None:
    asked = tuple(limited(one, Limits(max_bandwidth_mbps=5.0)) for one in NODES_ASKED)
    for asking in (request(), request(adding=None), request(nodes=asked, limits=Limits(1.0, 2, 3.0))):
        arrived = await received(messages(asking))

        assert arrived == asking
        assert arrived.sha256 == asking.sha256


def test_a_request_names_everything_that_is_asked() -> None:
    others = [
        request(patience=9.0),
        request(adding=None),
        request(nodes=request().nodes[:2]),
        request(sealing_key=b"k" * 32),
        request(key=replace(KEY, exchange=2)),
    ]

    assert len({one.sha256 for one in (request(), *others)}) == 1 + len(others)


def test_what_lies_below_is_asked_of_the_one_that_gathers_it() -> None:
    [(contact, below)] = request().below(4.0)

    assert contact == request().nodes[0].contact
    assert [one.node for one in request().asked] == [B, C]
    assert below == request(
        key=replace(KEY, node=B),
        opening=LOWER,
        sealing_key=OPENING.public,
        patience=4.0,
        nodes=(request().nodes[2],),
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[1:],
        lambda raw: [raw[0], *raw],
        lambda raw: raw[:-1],
        lambda raw: [*raw, raw[-1]],
        lambda raw: [raw[0], raw[3], *raw[1:3], raw[4]],
        lambda raw: [*raw[:3], raw[2], *raw[3:]],
        lambda raw: [raw[0], raw[2], raw[3], raw[4]],
        lambda raw: [raw[0][:-1], *raw[1:]],
        lambda raw: [pb.GatherMessage(head=_head(raw, patience=float("inf"))).SerializeToString(), *raw[1:]],
        lambda raw: [pb.GatherMessage(head=_head(raw, state_bytes=1 << 40)).SerializeToString(), *raw[1:]],
        lambda raw: [pb.GatherMessage(head=_head(raw, size=1 << 40)).SerializeToString(), *raw[1:]],
        lambda raw: [pb.GatherMessage(head=_head(raw, opening_key=b"short")).SerializeToString(), *raw[1:]],
    ],
)
async def test_what_is_no_whole_request_is_refused(spoil: Callable[[list[bytes]], list[bytes]]) -> None:
    with pytest.raises(FederatedError):
        await received(spoil(messages(request())))


async def test_damaged_bytes_are_read_or_refused() -> None:
    honest = messages(request())
    for place, raw in enumerate(honest):
        for at in range(0, len(raw), max(1, len(raw) // 60)):
            damaged = raw[:at] + bytes([raw[at] ^ (1 << at % 8)]) + raw[at + 1 :]
            with contextlib.suppress(FederatedError):
                await received([*honest[:place], damaged, *honest[place + 1 :]])
    said = answer(*told())
    for place, raw in enumerate(said):
        for at in range(0, len(raw), max(1, len(raw) // 60)):
            damaged = raw[:at] + bytes([raw[at] ^ (1 << at % 8)]) + raw[at + 1 :]
            with contextlib.suppress(FederatedError):
                collect(request(), [*said[:place], damaged, *said[place + 1 :]])


def _head(raw: list[bytes], **changes: object) -> pb.GatherHeader:
    head = pb.GatherMessage.FromString(raw[0]).head
    for name, value in changes.items():
        setattr(head, name, value)
    return head


def test_only_tasks_that_the_coordinator_has_signed_are_passed_on() -> None:
    check_signed(request(), [COORDINATOR.certificate_pem])

    with pytest.raises(FederatedError, match="not signed by the pinned coordinator"):
        check_signed(request(), [STRANGER.certificate_pem])
    b = NODES_ASKED[0]
    other = SignedTask(b.task.header, sign_task(STRANGER, task_sha256(b.task.header))) if b.task else None
    with pytest.raises(FederatedError, match="a task is not signed by the pinned coordinator"):
        check_signed(request(nodes=(replace(b, task=other),)), [COORDINATOR.certificate_pem])


@pytest.mark.parametrize(
    "change",
    [
        {"contact": Contact("https://10.0.0.1:22", (NODES[0].certificate_pem,))},
        {"contact": Contact("https://b:1", (STRANGER.certificate_pem,))},
        {"node": C},
        {"vouched": b""},
    ],
    ids=["another address", "another certificate", "another node", "not vouched for"],
)
@pytest.mark.parametrize("is_asked", [True, False], ids=["asked itself", "gathers alone"])
def test_nobody_is_dialled_whom_the_coordinator_has_not_named(
    change: dict[str, object], is_asked: bool
) -> None:
    """Whoever asks may be an aggregator, and would reach by another what it cannot reach itself."""
    named = NODES_ASKED[0] if is_asked else replace(NODES_ASKED[0], task=None)
    check_signed(request(nodes=(named,)), [COORDINATOR.certificate_pem])

    changed = replace(named, **change)  # type: ignore[arg-type]
    with pytest.raises(FederatedError, match="a node's address is not signed") as caught:
        check_signed(request(nodes=(changed,)), [COORDINATOR.certificate_pem])
    assert caught.value.code is ErrorCode.IDENTITY


def told() -> tuple[list[SignedTerm], PartialSum]:
    """What an honest aggregator tells of three nodes, and their sum."""
    gathering, terms = PartialGathering(ADDING), []
    for place, (node, identity) in enumerate(zip((B, C, D), NODES, strict=True)):
        header = encode_header(task(node), OPENING.public, STATE)
        got = ReceivedTask(task(node), header, task_sha256(header), OPENING.public, b"")
        vector = np.array([1.0, -2.0, 1e-3 * place])
        encoded = encode_vector(got.task.work, vector)
        update = close_update(identity, got, encoded, 2.0, None, None, None)
        gathering.take(Update(node, vector, 2.0))
        read = decode_update_header(update.header)
        terms.append(SignedTerm(node, read, update.header, update.signature))
    partial = gathering.result()
    assert partial is not None
    return terms, partial


USAGES: dict[NodeName, Usage | None] = {B: Usage(1.0, 0.5, 2.0**20), C: None, D: Usage(0.0, 0.0, 0.0)}


def answer(
    terms: list[SignedTerm],
    partial: AnySum,
    *,
    asking: GatherRequest = REQUEST,
    usages: dict[NodeName, Usage | None] = USAGES,
) -> list[bytes]:
    said = [message for term in terms for message in told_to_messages(term)]
    return [*said, *told_to_messages(close_sum(TOP, asking, partial, usages))]


def collect(asking: GatherRequest, said: Sequence[bytes]) -> GatheredSum:
    collector = GatherCollector(asking, [TOP.certificate_pem], ROOT)
    for raw in said:
        collector.take(raw)
    gathered = collector.finish()
    assert gathered is not None
    return gathered


def test_a_sum_arrives_to_the_bit_with_what_is_told_of_its_updates() -> None:
    terms, partial = told()

    gathered = collect(request(), answer(terms, partial))

    assert gathered.partial.sum.total().tobytes() == partial.sum.total().tobytes()
    assert gathered.signed == {one.node: one for one in terms}
    assert gathered.usages == USAGES
    for term, other in zip(gathered.partial.terms, partial.terms, strict=True):
        assert replace(term, sketch=other.sketch) == other
        assert term.sketch.tobytes() == other.sketch.tobytes()


def test_nothing_of_an_update_is_in_the_clear() -> None:
    terms, partial = told()
    said = b"".join(answer(terms, partial))

    for term in partial.terms:
        for number in (*term.sketch, term.norm, term.weight):
            assert number == 0.0 or np.float64(number).tobytes() not in said


def _lying_about(**changes: object) -> Callable[[], list[bytes]]:
    def said() -> list[bytes]:
        terms, partial = told()
        first, *others = partial.terms
        return answer(terms, PartialSum(partial.sum, (replace(first, **changes), *others)))  # type: ignore[arg-type]

    return said


def _of_whom_nobody_asked() -> list[bytes]:
    terms, partial = told()
    return answer([replace(terms[0], node=NodeName("x")), *terms[1:]], partial)


def _without_its_header() -> list[bytes]:
    terms, partial = told()
    return answer([replace(terms[0], raw=b""), *terms[1:]], partial)


def _shorter() -> list[bytes]:
    """Of a sum that is longer than what is told of its updates allows."""
    terms, partial = told()
    small = tuple(replace(one, norm=1e-6, norms=(1e-6,)) for one in partial.terms)
    return answer(terms, PartialSum(partial.sum, small))


def _of_more() -> list[bytes]:
    """Of a sum of more updates than it names."""
    terms, partial = told()
    other = ExactSum(SIZE)
    other.add(np.zeros(SIZE))
    other.merge(partial.sum)
    return answer(terms, PartialSum(other, partial.terms))


def _changed(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[], list[bytes]]:
    return lambda: change(answer(*told()))


def _flipped(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


def _by_a_stranger() -> list[bytes]:
    terms, partial = told()
    return [*answer(terms, partial)[:3], *told_to_messages(close_sum(STRANGER, REQUEST, partial, USAGES))]


def _of_another_request() -> list[bytes]:
    return answer(*told(), asking=request(patience=9.0))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (_by_a_stranger, "signature is not the aggregator's"),
        (_of_another_request, "answers another request"),
        (_shorter, "longer than the updates that are said to be in it"),
        (_of_more, "another number of updates"),
        (_changed(lambda raw: raw[1:]), "not of the updates that were told of"),
        (_changed(lambda raw: raw[:3]), "sum is missing"),
        (_changed(lambda raw: [raw[0], *raw]), "nobody asked for"),
        (_changed(lambda raw: raw[3:]), "not of the updates that were told of"),
        (_changed(lambda raw: [*raw[:4], *raw[:1]]), "out of order"),
        (_changed(lambda raw: [raw[4], *raw[:4]]), "out of order"),
        (_changed(lambda raw: raw[:4]), "not what its header says"),
        (_changed(lambda raw: [*raw[:4], _flipped(raw[4])]), "not what its header says"),
        (_changed(lambda raw: [*raw, raw[4]]), "longer than announced"),
        (lambda: [pb.GatherAnswer(passed=pb.PassedOn(node="b")).SerializeToString()], "out of order"),
        (lambda: [b"\xff\xff"], "cannot be decoded"),
        (_of_whom_nobody_asked, "nobody asked for"),
        (_without_its_header, "update rejected"),
        (_lying_about(weight=float("nan")), "a weight is none"),
        (_lying_about(weight=-1.0), "a weight is none"),
        (_lying_about(norm=float("nan")), "a norm"),
        (_lying_about(norms=(-1.0,)), "a norm"),
        (_lying_about(norms=(1.0, 2.0)), "length that it announces"),
        (_lying_about(sketch=np.zeros(1)), "length that it announces"),
        (_lying_about(norms=(1.0,) * 100), "of another length than was asked for"),
        (lambda: answer(*told(), usages={**USAGES, C: Usage(-1.0, 0.0, 0.0)}), "time and memory"),
    ],
)  # fmt: skip
def test_whatever_an_aggregator_lies_about_is_rejected(said: Callable[[], list[bytes]], reason: str) -> None:
    with pytest.raises(FederatedError, match=reason) as caught:
        collect(request(), said())
    assert caught.value.code is ErrorCode.UPDATE_REJECTED


MASKED = request(shape=Shape(6, Dtype.UINT64), adding=MaskedAdding(6, 2))


async def test_a_request_for_masked_vectors_has_a_note_for_each_node() -> None:
    b, *others = NODES_ASKED
    assert b.task is not None
    noted = replace(b, task=replace(b.task, note=b"boxes"))
    asking = replace(MASKED, nodes=(noted, *others))

    assert await received(messages(asking)) == asking


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"adding": MaskedAdding(6, 4)}, "such words cannot be added up"),
        ({"shape": Shape(6, Dtype.FLOAT64)}, "such words cannot be added up"),
        ({"adding": MaskedAdding(6, 65)}, "limbs"),
    ],
)
async def test_words_that_are_none_are_added_by_nobody(change: dict[str, object], reason: str) -> None:
    with pytest.raises(FederatedError, match=reason):
        await received(messages(replace(MASKED, **change)))  # type: ignore[arg-type]


async def test_vectors_are_added_up_in_one_way() -> None:
    head, *others = messages(MASKED)
    message = pb.GatherMessage.FromString(head)
    message.head.adding.CopyFrom(pb.Adding(parts=1))

    with pytest.raises(FederatedError, match="in one way"):
        await received([message.SerializeToString(), *others])


def test_a_sum_of_masked_vectors_is_its_words_and_who_signed_one() -> None:
    terms, _ = told()
    words = np.arange(6, dtype=np.uint64) + np.uint64(1 << 63)
    made = MaskedSum(words, tuple(masked_term(node, 1.0) for node in (B, C, D)))

    gathered = collect(MASKED, answer(terms, made, asking=MASKED))

    assert isinstance(gathered.partial, MaskedSum)
    assert gathered.partial.words.tolist() == words.tolist()
    assert gathered.partial.nodes == {B, C, D}
    assert gathered.usages == USAGES
    with pytest.raises(FederatedError, match="not of the updates that were told of"):
        collect(MASKED, answer(terms[1:], made, asking=MASKED))
    short = replace(made, words=words[1:])
    with pytest.raises(FederatedError, match="another size than was asked for"):
        collect(MASKED, answer(terms, short, asking=MASKED))


def test_a_sum_opens_for_whoever_asked_alone() -> None:
    collector = GatherCollector(request(), [TOP.certificate_pem], OPENING)
    for raw in answer(*told()):
        collector.take(raw)

    with pytest.raises(FederatedError, match="does not open"):
        collector.finish()


def test_nothing_gathered_is_an_answer_too() -> None:
    assert GatherCollector(request(), [TOP.certificate_pem], ROOT).finish() is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"signature": b"none"}, "signature is not the node's"),
        ({"header": {"key": replace(KEY, node=C)}}, "another node"),
        ({"header": {"task_sha256": hashlib.sha256(b"").digest()}}, "another task"),
        ({"header": {"length": SIZE + 1}}, "length and type"),
        ({"private": True}, "not private although its task is"),
    ],
)
def test_an_update_counts_by_its_nodes_own_signature_alone(change: dict, reason: str) -> None:
    terms, partial = told()
    signed, sha256 = terms[0], terms[0].header.task_sha256
    pinned = [NODES[0].certificate_pem]
    assert (
        open_term(task(B), sha256, signed, partial.terms[0], pinned, private=False).term is partial.terms[0]
    )

    signed = replace(
        signed,
        signature=change.get("signature", signed.signature),
        header=replace(signed.header, **change.get("header", {})),
    )
    with pytest.raises(FederatedError, match=reason) as caught:
        open_term(task(B), sha256, signed, partial.terms[0], pinned, private=change.get("private", False))
    assert caught.value.code is ErrorCode.UPDATE_REJECTED


def test_a_spending_goes_with_its_term() -> None:
    terms, partial = told()
    signed = terms[0]
    charged = replace(signed, header=replace(signed.header, mechanism=MECHANISM, spending=Spending(1.0, 0.5)))

    opened = open_term(
        task(B),
        signed.header.task_sha256,
        charged,
        partial.terms[0],
        [NODES[0].certificate_pem],
        private=True,
    )

    assert (opened.mechanism, opened.spending) == (MECHANISM, Spending(1.0, 0.5))


def test_keys_are_in_no_text() -> None:
    for shown in (repr(request()), repr(request().nodes)):
        for key in (OPENING, LOWER):
            assert repr(key.private) not in shown
            assert key.private.hex() not in shown

"""What crosses the wire between coordinator and node, byte class by byte class; and what a hostile peer gets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from google.protobuf.message import Message

from heliosdb.domain.errors import ErrorCode
from heliosdb.domain.handshake import Greeting
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.privacy import Budget
from heliosdb.domain.settings import Setting
from heliosdb.domain.state import state_to_bytes
from heliosdb.domain.task import Task
from heliosdb.domain.vector import vector_to_bytes
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.carriers import Method
from heliosdb.transport.client import Traffic
from heliosdb.transport.identity import Identity
from heliosdb.transport.limits import payload_bytes
from heliosdb.transport.messages import encode_task, task_sha256
from heliosdb.transport.rpc import CHANNEL_OPTIONS, aio, grpc, path
from heliosdb.transport.verification import sign_task
from tests.support.cluster import Cluster
from tests.support.federation import (
    SCALING,
    WORKSPACE,
    Federation,
    create_patients,
    evaluate_task,
    new_run,
    running_node,
    statistics_task,
    train_task,
)

pytestmark = pytest.mark.usefixtures("forked_training")

TIMEOUT = 180.0
BUDGET = Budget(10.0, 1e-5)

KEY_FIELDS = {"key.workspace", "key.run", "key.round", "key.exchange", "key.step", "key.node"}
CLEAR_UPDATE_FIELDS = KEY_FIELDS | {
    "task_sha256",
    "dtype",
    "length",
    "ephemeral_key",
    "payload_bytes",
    "payload_sha256",
    "mechanism.noise_multiplier",
    "mechanism.sampling_rate",
    "mechanism.steps",
    "spending.epsilon_basic",
    "spending.epsilon_tight",
}


@dataclass(slots=True)
class Recorder(Traffic):
    """Keeps every message as it passed."""

    outgoing: list[bytes] = field(default_factory=list)
    incoming: list[bytes] = field(default_factory=list)

    def send(self, message: bytes) -> bytes:
        self.outgoing.append(message)
        self.sent += len(message)
        return message

    def receive(self, message: bytes) -> bytes:
        self.incoming.append(message)
        self.received += len(message)
        return message


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


async def record(
    cluster: Cluster, database: str, federation: Federation, tasks: Sequence[Task], *, name: str = "node"
) -> list[Recorder]:
    recorders: list[Recorder] = []

    def recorder() -> Recorder:
        recorders.append(Recorder())
        return recorders[-1]

    async with running_node(federation.node_config(cluster, database, name)) as port:
        client = federation.client(port, name, traffic=recorder)
        for task in tasks:
            update = await client.perform(task, federation.sealing, TIMEOUT)
            assert (update.bytes_sent, update.bytes_received) == (recorders[-1].sent, recorders[-1].received)
        await client.close()
    return recorders


def every_kind_of_task() -> list[Task]:
    run, private = new_run(), new_run()
    return [
        statistics_task(run=run),
        train_task(run=run),
        evaluate_task(run=run),
        statistics_task(run=private, noise_multiplier=30.0, budget=BUDGET),
        train_task(run=private, noise_multiplier=30.0, budget=BUDGET),
        evaluate_task(run=private, noise_multiplier=30.0),
    ]


async def test_every_byte_that_crosses_is_a_known_field_or_a_vector_chunk(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    tasks = every_kind_of_task()
    for task, traffic in zip(
        tasks, await record(cluster, federated_database, federation, tasks), strict=True
    ):
        outgoing, incoming = (
            _split(pb.TaskMessage, traffic.outgoing),
            _split(pb.UpdateMessage, traffic.incoming),
        )
        # Out: the header as encoded, a signature, the state.
        header, body = encode_task(task, federation.sealing.public)
        assert outgoing.header == header
        assert outgoing.chunks == body == state_to_bytes(task.state)
        # In: known fields in the clear, a signature, one sealed payload of exactly the announced size.
        update = pb.UpdateHeader.FromString(incoming.header)
        assert set(_leaves(update)) <= CLEAR_UPDATE_FIELDS
        assert len(incoming.chunks) == update.payload_bytes == payload_bytes(8 * update.length)
        assert update.task_sha256 == task_sha256(header)
        # Nothing else: what was parsed makes up all that passed.
        assert outgoing.rebuilt == traffic.outgoing
        assert incoming.rebuilt == traffic.incoming


async def test_nothing_in_the_clear_depends_on_the_rows(cluster: Cluster, federation: Federation) -> None:
    tasks = every_kind_of_task()
    seen = []
    for rows in (200, 333):
        database = cluster.create_database("federated_template")
        create_patients(cluster, database, rows=rows)
        seen.append(await record(cluster, database, federation, tasks))
    for one, other in zip(*seen, strict=True):
        first, second = (
            pb.UpdateHeader.FromString(_split(pb.UpdateMessage, traffic.incoming).header)
            for traffic in (one, other)
        )
        assert first.payload_sha256 != second.payload_sha256
        for header in (first, second):
            header.ClearField("ephemeral_key")
            header.ClearField("payload_sha256")
        assert first == second


async def test_no_value_of_a_row_and_no_plain_sum_crosses(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    # Not so large that it would be most of a sum, which no node answers.
    marked = 234.56789
    with cluster.connect(federated_database) as connection:
        connection.execute("UPDATE patient SET pressure = %s WHERE patient_id = 7", [marked])
        plain = connection.execute("SELECT sum(pressure)::float8 FROM patient").fetchone()
    assert plain is not None
    traffic = await record(cluster, federated_database, federation, every_kind_of_task())
    crossed = b"".join(message for each in traffic for message in each.outgoing + each.incoming)
    for value in (marked, plain[0], 200.0):
        assert vector_to_bytes(np.array([value])) not in b"".join(
            message for each in traffic for message in each.incoming
        )
    assert b"123456" not in crossed
    assert b"Rome" not in crossed


async def test_a_greeting_tells_names_and_types_only(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database, options="WITH (max_epsilon = 3.5, subject = 'patient_id')")
    recorder = Recorder()
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port, traffic=lambda: recorder)
        await client.greet(Greeting(WorkspaceName(WORKSPACE), NodeName("node")), TIMEOUT)
        await client.close()
    (answer,) = recorder.incoming
    assert set(_leaves(pb.Introduction.FromString(answer))) == {
        "datasets.name",
        "datasets.columns",
        "datasets.types",
        "extras",
        # Which of its certificates it signs with.
        "certificate_sha256",
        # What its DBA lets a computation take.
        "limits.max_memory_gb",
        "limits.max_cpu_cores",
        "limits.task_limit_seconds",
    }
    assert b"patient_id" not in answer


async def test_what_a_hostile_coordinator_sends_is_refused_and_leaves_no_trace(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    task = train_task()
    header, body = encode_task(task, federation.sealing.public)
    first = replace(statistics_task(run=task.key.run), reading=task.reading)
    good = _head(header, federation.coordinator)
    stranger = federation.authority.issue("coordinator", ["localhost"])
    other, _ = encode_task(train_task(), federation.sealing.public)
    chunk = pb.TaskMessage(chunk=body).SerializeToString()
    attempts: list[tuple[list[bytes], str]] = [
        ([_head(header, stranger), chunk], "not signed by the pinned coordinator"),
        (
            [_head(header, federation.coordinator, signed=other), chunk],
            "not signed by the pinned coordinator",
        ),
        ([good, pb.TaskMessage(chunk=body[:-1] + b"\x01").SerializeToString()], "not what its header says"),
        ([good, chunk, chunk], "longer than announced"),
        ([good, pb.TaskMessage(chunk=body[:-8]).SerializeToString()], "shorter than announced"),
        ([chunk, good], "out of order"),
        ([good, good], "out of order"),
        ([], "shorter than announced"),
        ([b"\xff\xff"], "cannot be decoded"),
        ([good + b"\x98\x06\x01", chunk], "does not know"),
    ]
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        for messages, message in attempts:
            refusal = await _raw_perform(federation, port, messages)
            assert message in refusal.message
            assert refusal.code in {"IDENTITY", "INVALID_VALUE", "NOT_SUPPORTED"}
        garbage = pb.Introduction.FromString(await _raw_greet(federation, port, b"\xff"))
        assert garbage.refusal.code == "INVALID_VALUE"
        # The node still answers, and none of this has released anything.
        with cluster.connect(federated_database) as connection:
            assert connection.execute("SELECT count(*) FROM federated.release").fetchone() == (0,)
        client = federation.client(port)
        for honest in (first, task):
            await client.perform(honest, federation.sealing, TIMEOUT)
        await client.close()


def _with_scale(scale: float) -> Task:
    task = train_task()
    return replace(task, scaling=replace(SCALING, scales=(scale, 15.0)))


def _with_setting(name: str, value: Setting) -> Task:
    task = train_task()
    return replace(task, work=replace(task.work, settings={**task.work.settings, name: value}))


def _with_work(**changes: Any) -> Task:
    task = train_task()
    return replace(task, work=replace(task.work, **changes))


def _not_finite() -> Task:
    """A task whose state, which was not made by `make_state`, holds a number that none may hold."""
    return replace(train_task(), state={"parameters": np.array([0.0, np.nan, 0.0])})


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (_with_scale(1e-300), "a scale 1e-300 is outside 1e-290 … 1e+290"),
        (_with_scale(5e-324), "a scale 4.94066e-324 is outside"),
        (_with_scale(float("nan")), "a scale nan is outside"),
        (train_task(noise_multiplier=1e-300, budget=BUDGET), "noise_multiplier 1e-300 is outside 0.01 … 1e+06"),
        (statistics_task(noise_multiplier=1e-5, budget=BUDGET), "noise_multiplier 1e-05 is outside"),
        (evaluate_task(noise_multiplier=float("inf")), "noise_multiplier inf is outside"),
        (statistics_task(noise_multiplier=1.0, budget=Budget(1e300, 1e-5)), "epsilon 1e+300 is outside (0, 1e+06]"),
        (train_task(parameters=np.array([0.0, 1e300, 0.0])), "a parameter 1e+300 is outside -1e+09 … 1e+09"),
        (_not_finite(), 'array "parameters" holds a number that is not finite'),
        (_with_setting("learning_rate", 1e-300), "learning_rate 1e-300 is outside 1e-12 … 1000"),
        (_with_setting("learning_rate", float("nan")), "setting learning_rate is not finite"),
        (_with_setting("local_epochs", 10_001), "local_epochs 10001 is outside 1 … 10000"),
        (_with_setting("batch_size", 0), "batch_size 0 is outside 1 … 1e+06"),
        (_with_setting("batch_size", "many"), "batch_size is not of its type"),
        (_with_setting("another", True), "another is no setting here"),
        (_with_work(size=2**40), "the vector that is asked for is too large"),
        (_with_work(algorithm="../../x"), "the name of the algorithm is none"),
        (replace(train_task(), compliance_mode="lax"), "compliance_mode is none of none, HIPAA, GDPR, BOTH"),
    ],
)  # fmt: skip
async def test_hostile_numbers_are_refused_before_a_row_is_read_or_paid_for(
    cluster: Cluster, federated_database: str, federation: Federation, task: Task, said: str
) -> None:
    create_patients(cluster, federated_database)
    # There is nobody to read as: reading would be refused for that.
    config = federation.node_config(
        cluster, federated_database, reader=cluster.dsn("nowhere", user="heliosdb_reader")
    )
    async with running_node(config) as port:
        header, body = encode_task(task, federation.sealing.public)
        chunk = pb.TaskMessage(chunk=body).SerializeToString()
        refusal = await _raw_perform(federation, port, [_head(header, federation.coordinator), chunk])
    assert (refusal.code, said in refusal.message) == ("INVALID_VALUE", True), refusal.message
    with cluster.connect(federated_database) as connection:
        written = connection.execute(
            "SELECT (SELECT count(*) FROM federated.release), (SELECT count(*) FROM federated.spending)"
        ).fetchone()
    assert written == (0, 0)


async def test_a_message_beyond_the_limit_is_cut_off_by_the_transport(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    huge = pb.TaskMessage(chunk=b"x" * (4 * 1024 * 1024)).SerializeToString()
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        with pytest.raises(aio.AioRpcError) as raised:
            await _raw_perform(federation, port, [huge])
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_inner_error_is_told_by_its_condition_and_no_more(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    with cluster.connect(federated_database) as connection:
        connection.execute("ALTER TABLE federated.spending RENAME TO gone")
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        task = train_task()
        header, body = encode_task(task, federation.sealing.public)
        chunk = pb.TaskMessage(chunk=body).SerializeToString()
        refusal = await _raw_perform(federation, port, [_head(header, federation.coordinator), chunk])
    assert refusal.code == ErrorCode.INTERNAL.name
    assert (
        refusal.message == "the node's database does not do what the node asks of it (42P01 undefined_table)"
    )
    assert (refusal.detail, refusal.hint) == ("", "The database's own log says why.")


def test_the_reader_can_select_datasets_and_nothing_else(cluster: Cluster, federated_database: str) -> None:
    create_patients(cluster, federated_database)
    with cluster.connect(federated_database) as connection:
        connection.execute("CREATE TABLE other (x integer)")
        readable = connection.execute(
            "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p', 'S') AND n.nspname NOT IN ('pg_catalog', "
            "'information_schema') AND has_schema_privilege('heliosdb_reader', n.oid, 'USAGE') "
            "AND has_any_column_privilege('heliosdb_reader', c.oid, 'SELECT')"
        ).fetchall()
        changeable = connection.execute(
            "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') AND n.nspname !~ '^pg_' "
            "AND n.nspname <> 'information_schema' "
            "AND has_table_privilege('heliosdb_reader', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')"
        ).fetchall()
        role = connection.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles "
            "WHERE rolname = 'heliosdb_reader'"
        ).fetchone()
        functions = connection.execute(
            "SELECT p.oid::regprocedure::text FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace "
            "WHERE n.nspname IN ('federated', 'federated_model', 'federated_dataset') "
            "AND has_function_privilege('heliosdb_reader', p.oid, 'EXECUTE')"
        ).fetchall()
    assert readable == [("federated_dataset", "patients")]
    assert changeable == []
    assert role == (False, False, False, False, False)
    assert functions == []


def test_the_daemon_adds_to_a_nodes_records_and_changes_none(
    cluster: Cluster, federated_database: str
) -> None:
    with cluster.connect(federated_database) as connection:
        granted = connection.execute(
            "SELECT c.relname, p.privilege, has_table_privilege('heliosdb_daemon', c.oid, p.privilege) "
            "FROM pg_class AS c, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS p (privilege) "
            "WHERE c.oid = ANY (ARRAY['federated.release', 'federated.spending', 'federated.agreement', "
            "'federated.noise_share', 'federated.dataset']::regclass[])"
        ).fetchall()
        changeable = connection.execute(
            "SELECT c.relname, a.attname FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid "
            "WHERE a.attnum > 0 AND NOT a.attisdropped AND c.oid = ANY (ARRAY['federated.release', "
            "'federated.spending', 'federated.agreement', 'federated.noise_share', 'federated.dataset']::regclass[]) "
            "AND has_column_privilege('heliosdb_daemon', c.oid, a.attname, 'UPDATE')"
        ).fetchall()
    assert {(table, privilege) for table, privilege, given in granted if given} == {
        ("release", "INSERT"),
        ("spending", "INSERT"),
        ("agreement", "INSERT"),
        ("noise_share", "INSERT"),
    }
    # Of these a trigger lets only what is charged become a release, and a payload be forgotten.
    assert sorted(changeable) == [
        ("release", column) for column in ("header", "payload", "payload_bytes", "released_at", "state")
    ]
    with cluster.connect(federated_database, user="heliosdb_daemon") as connection:
        connection.execute(
            "INSERT INTO federated.release (workspace, run_id, round_number, step, node_name, dataset, task_sha256,"
            " header, payload, payload_bytes, state) VALUES ('w', gen_random_uuid(), 1, 'train', 'n', 'd', '', 'h',"
            " 'p', 1, 'released')"
        )
        for change in ("header = 'x'", "state = 'charged'", "payload = 'x'", "released_at = now()"):
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                connection.execute(f"UPDATE federated.release SET {change}")  # type: ignore[arg-type]
        connection.execute("UPDATE federated.release SET payload = NULL")


@dataclass(frozen=True)
class Parts:
    """One direction of an exchange, taken apart, and the same put together again."""

    header: bytes
    chunks: bytes
    rebuilt: list[bytes]


def _split(kind: type[pb.TaskMessage] | type[pb.UpdateMessage], raw: list[bytes]) -> Parts:
    head = kind.FromString(raw[0]).head
    chunks = [kind.FromString(message).chunk for message in raw[1:]]
    signed = pb.SignedHeader(header=head.header, signature=head.signature, chunk=head.chunk)
    rebuilt = [kind(head=signed).SerializeToString()] + [kind(chunk=c).SerializeToString() for c in chunks]
    return Parts(head.header, b"".join([head.chunk, *chunks]), rebuilt)


def _leaves(message: Message, prefix: str = "") -> list[str]:
    found: list[str] = []
    for descriptor, value in message.ListFields():
        name = prefix + descriptor.name
        if descriptor.message_type is None:
            found.append(name)
        else:
            values = value if descriptor.is_repeated else [value]
            found += [leaf for each in values for leaf in _leaves(each, f"{name}.")]
    return found


def _head(header: bytes, signer: Identity, *, signed: bytes | None = None) -> bytes:
    signature = sign_task(signer, task_sha256(signed or header))
    return pb.TaskMessage(head=pb.SignedHeader(header=header, signature=signature)).SerializeToString()


def _channel(federation: Federation, port: int) -> aio.Channel:
    identity = federation.coordinator
    credentials = grpc.ssl_channel_credentials(
        (federation.directory / "node.pem").read_bytes(), identity.private_key_pem, identity.certificate_pem
    )
    options = [option for option in CHANNEL_OPTIONS if "message_length" not in option[0]]
    return aio.secure_channel(f"localhost:{port}", credentials, options=options)


async def _raw_perform(federation: Federation, port: int, messages: list[bytes]) -> pb.Refusal:
    async def send() -> AsyncIterator[bytes]:
        for message in messages:
            yield message

    async with _channel(federation, port) as channel:
        call = channel.stream_stream(path(Method.PERFORM))(send(), timeout=TIMEOUT)
        answers = [answer async for answer in call]
    (answer,) = answers
    return pb.UpdateMessage.FromString(answer).refusal


async def _raw_greet(federation: Federation, port: int, message: bytes) -> bytes:
    async with _channel(federation, port) as channel:
        answer: bytes = await channel.unary_unary(path(Method.GREET))(message, timeout=TIMEOUT)
    return answer

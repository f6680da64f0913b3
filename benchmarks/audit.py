"""What the audit log costs: an entry at COMMIT, the next signed head of a long log, proofs, and a verification of all.

The long log is written past the triggers, with hashes of nothing: how long what is measured takes does not depend on
them. Medians; the server has fsync on; the catalog is asked through the daemon's own functions.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from benchmarks.harness import Figure, median_seconds, publish
from heliosdb.catalog import tree_heads
from heliosdb.catalog.lease import take_lease
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connected
from heliosdb.catalog.tree_heads import Signer
from heliosdb.domain.ids import Epoch, WorkspaceName
from heliosdb.domain.tree_head import Log
from heliosdb.transport.authority import Authority
from heliosdb.transport.head_signatures import sign_head
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.ports import free_port

FILL = """
INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details, origin,
                             chain_position, previous_hash, hash)
SELECT 'w', 'x', 'x', 'insert', 'model', 'm' || i, '{}', o.origin, i, sha256((i - 1)::text::bytea), sha256(i::text::bytea)
FROM generate_series($1::bigint, $2::bigint) AS i, federated.audit_origin AS o
"""
END = """
INSERT INTO federated.audit_head SELECT 'w', o.origin, $1, '' FROM federated.audit_origin AS o
ON CONFLICT (workspace, origin) DO UPDATE SET chain_position = excluded.chain_position
"""
ENTRIES_A_COMMIT = 200


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="benchmarks.audit", description="What the audit log costs.")
    parser.add_argument("--entries", type=int, default=1_000_000, help="of the long log")
    given = parser.parse_args()
    cluster = create_cluster(free_port())
    try:
        publish("audit", measure(cluster, given.entries))
    finally:
        remove_cluster(cluster)


def measure(cluster: Cluster, entries: int) -> list[Figure]:
    """The figures."""
    database = cluster.create_database()
    with connected(cluster.dsn(database), application_name="bench") as connection:
        connection.raw.prepare_threshold = None
        connection.raw.execute(b"CREATE EXTENSION heliosdb_federated_learning SCHEMA public CASCADE")
        with connection.transaction():
            epoch = take_lease(connection, "bench")
        return [*_appending(connection), *_long(connection, epoch, entries)]


def _appending(connection: PsycopgConnection) -> list[Figure]:
    connection.raw.execute(b"INSERT INTO federated.workspace (name) VALUES ('short')")
    place = iter(range(10**9))

    def insert() -> None:
        with connection.transaction():
            for _ in range(ENTRIES_A_COMMIT):
                connection.raw.execute(
                    b"INSERT INTO federated.model (workspace_id, name) SELECT w.workspace_id, $1 FROM federated.workspace AS w",
                    [f"m{next(place)}"],
                )

    with_log = median_seconds(insert, 7)
    connection.raw.execute(b"ALTER TABLE federated.model DISABLE TRIGGER audit")
    without = median_seconds(insert, 7)
    return [Figure("an entry, appended and linked", (with_log - without) / ENTRIES_A_COMMIT * 1e3, "ms")]


def _long(connection: PsycopgConnection, epoch: Epoch, entries: int) -> list[Figure]:
    identity = Authority.create("bench").issue("coordinator", ["localhost"])
    signer = Signer(bytes.fromhex(identity.fingerprint), identity.certificate_pem)
    [row] = connection.raw.execute(b"SELECT origin FROM federated.audit_origin").fetchall()
    log: Log = (WorkspaceName("w"), row["origin"])
    grown = 0

    def grow(by: int) -> None:
        nonlocal grown
        connection.raw.execute(b"SET session_replication_role = replica")
        connection.raw.execute(FILL.encode(), [grown + 1, grown + by])
        connection.raw.execute(b"RESET session_replication_role")
        grown += by
        connection.raw.execute(END.encode(), [grown])

    def sign() -> None:
        head = tree_heads.sign_grown(connection, epoch, log, signer, lambda text: sign_head(identity, text))
        assert head is not None
        assert head.size == grown

    grow(entries)
    connection.raw.execute(b"ALTER TABLE federated.tree_head DISABLE TRIGGER audit")
    connection.raw.execute(b"ANALYZE federated.audit")
    first = timed(sign)
    half, next_heads = grown, []
    for _ in range(9):
        grow(10)
        next_heads.append(timed(sign))
    return [
        Figure(f"the first head of {entries} entries", first, "s"),
        Figure("the next head, over 10 more", sorted(next_heads)[4] * 1e3, "ms"),
        Figure(
            "proof from that head to the newest",
            median_seconds(lambda: tree_heads.prove_growth(connection, log, half, grown), 9) * 1e3,
            "ms",
        ),
        Figure("logs that have grown, asked", median_seconds(lambda: tree_heads.list_grown(connection, 60.0), 9) * 1e3, "ms"),
        Figure("all leaves against all heads", timed(lambda: _tree(connection)), "s"),
        Figure("federated_audit_verify", timed(lambda: _verify(connection)), "s"),
    ]  # fmt: skip


def _tree(connection: PsycopgConnection) -> None:
    connection.raw.execute(b"SELECT * FROM federated._tree_faults('w')").fetchall()


def _verify(connection: PsycopgConnection) -> None:
    connection.raw.execute(b"SELECT * FROM public.federated_audit_verify('w')").fetchall()


def timed(action: Callable[[], object]) -> float:
    """Seconds that it takes once."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

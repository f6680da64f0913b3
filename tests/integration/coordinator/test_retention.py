"""The coordinator deletes for age under its epoch alone, and signs what it deleted with its certificate's key."""

from __future__ import annotations

import pytest

from heliosdb.catalog import lease
from heliosdb.catalog.psycopg_connection import connected
from heliosdb.coordinator.retention import Retention
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import Epoch
from heliosdb.transport.authority import Authority
from heliosdb.transport.identity import verify
from tests.support.cluster import Cluster

OLD = """
INSERT INTO federated.event (epoch, kind, recorded_at) SELECT 1, 'lease.taken', now() - interval '3000 days' FROM generate_series(1, 3)
"""


def take_lease(conninfo: str, holder: str) -> Epoch:
    with connected(conninfo, application_name="test") as connection:
        lease.become_daemon(connection)
        with connection.transaction():
            return lease.take_lease(connection, holder)


async def test_a_term_deletes_what_is_old_and_one_that_is_over_does_not(
    cluster: Cluster, federated_database: str
) -> None:
    identity = Authority.create("test authority").issue("coordinator", ["localhost"])
    conninfo = cluster.dsn(federated_database, user="heliosdb_daemon")
    former, epoch = take_lease(conninfo, "former"), take_lease(conninfo, "now")
    with cluster.connect(federated_database) as connection:
        connection.execute(OLD)
        with pytest.raises(FederatedError) as fenced:
            await Retention(conninfo, former, lambda: identity).sweep()
        assert fenced.value.code is ErrorCode.FENCED
        assert connection.execute("SELECT count(*) FROM federated.event").fetchone() == (3,)
        await Retention(conninfo, epoch, lambda: identity).sweep()
        assert connection.execute("SELECT count(*) FROM federated.event").fetchone() == (0,)
        ((name, entries, statement, signature, certificate),) = connection.execute(
            "SELECT name, entries, statement, signature, certificate FROM federated.retention_stub"
        ).fetchall()
    assert (name, entries) == ("event", 3)
    assert certificate == identity.certificate_pem.decode()
    assert verify(certificate.encode(), statement, signature)


async def test_a_workspace_that_cannot_be_signed_for_loses_nothing(
    cluster: Cluster, federated_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    conninfo = cluster.dsn(federated_database, user="heliosdb_daemon")
    epoch = take_lease(conninfo, "now")

    def unreadable() -> object:
        raise FederatedError(ErrorCode.IDENTITY, "the private key is not an ECDSA P-256 key")

    with cluster.connect(federated_database) as connection:
        connection.execute(OLD)
        await Retention(conninfo, epoch, unreadable).sweep()  # type: ignore[arg-type]
        assert connection.execute("SELECT count(*) FROM federated.event").fetchone() == (3,)
    assert "nothing is deleted for its age: the private key" in caplog.text

"""What the coordinator watches, when alerts fire, what becomes of firings, and breaches of security."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from federated_sql.alert_metrics import METRICS
from heliosdb.catalog.lease import become_daemon, take_lease
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connected
from heliosdb.coordinator import mail
from heliosdb.coordinator.alerts import Look, evaluate, see_refusals, verify_audit
from heliosdb.coordinator.breaches import Breach, raise_breach
from heliosdb.coordinator.config import CoordinatorConfig
from heliosdb.coordinator.session import CatalogSession
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import Epoch, NodeName, WorkspaceName
from heliosdb.observing.table import NOTICES
from heliosdb.transport.authority import Authority
from tests.integration.coordinator.alerts_support import NOW, desk
from tests.integration.coordinator.support import WORKSPACE, World, create_model, create_workspace
from tests.integration.coordinator.test_hostile_nodes import overweight, served
from tests.support.heard import hearing
from tests.support.receivers import PASSWORD, USER, hook_server, mail_server, write_identity

HOUR = 3_600.0
WHERE = WorkspaceName(WORKSPACE)


@pytest.fixture
def daemon(world: World) -> Iterator[PsycopgConnection]:
    """A coordinator's connection, in a catalog with a workspace."""
    create_workspace(world, min_nodes=2)
    with connected(
        world.cluster.dsn(world.database, user="heliosdb_daemon"), application_name="test"
    ) as made:
        become_daemon(made)
        yield made


@pytest.fixture
def epoch(daemon: PsycopgConnection) -> Epoch:
    return take_lease(daemon, "test")


def alert(world: World, condition: str = "active_nodes < 3", target: str = "pg:c", name: str = "few") -> None:
    world.execute(
        f"CREATE FEDERATED ALERT {name} ON WORKSPACE {WORKSPACE} WHEN {condition} NOTIFY '{target}'"
    )


def look(daemon: PsycopgConnection, epoch: Epoch, at: float) -> None:
    evaluate(daemon, Look(epoch, at, 60.0))


def register(world: World, *names: str, status: str = "active") -> None:
    for name in names:
        world.execute(
            f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE {WORKSPACE} WITH (endpoint = 'https://{name}:1')"
        )
    world.query("UPDATE federated.node SET status = %s", status)


def firings(world: World) -> list[dict[str, Any]]:
    return world.query(
        "SELECT * FROM federated_alerts WHERE fired_at IS NOT NULL ORDER BY fired_at, firing_id"
    )


def test_an_alert_fires_once_is_armed_again_when_it_was_calm_and_fires_again(
    world: World, daemon: PsycopgConnection, epoch: Epoch
) -> None:
    register(world, "a", "b")
    alert(world)
    for at in (0, 5, 10):
        look(daemon, epoch, NOW + at)
    [first] = firings(world)
    register(world, "c")
    look(daemon, epoch, NOW + 15)
    [calm] = world.query("SELECT status FROM federated_alerts")
    world.execute(f"UNREGISTER FEDERATED NODE 'c' FROM WORKSPACE {WORKSPACE}")
    look(daemon, epoch, NOW + 70)
    assert len(firings(world)) == 1
    register(world, "c")
    for at in (75, 140):
        look(daemon, epoch, NOW + at)
    [armed] = world.query("SELECT status FROM federated_alerts")
    world.execute(f"UNREGISTER FEDERATED NODE 'c' FROM WORKSPACE {WORKSPACE}")
    look(daemon, epoch, NOW + 145)
    second = firings(world)[1]

    assert (first["status"], calm["status"], armed["status"], second["status"]) == (
        "raised",
        "raised",
        "armed",
        "raised",
    )
    assert (first["workspace_name"], first["alert_name"], first["kind"]) == (WORKSPACE, "few", "alert")
    assert first["conditions"] == "active_nodes < 3"
    assert first["observed"] == {"active_nodes": 2}
    assert (first["delivered_at"], first["failure"], first["attempts"]) == (None, None, 0)
    assert (second["fired_at"] - first["fired_at"]).total_seconds() == 145
    assert first["firing_id"] != second["firing_id"]
    assert first["notify_authority_by"] is None


def test_another_coordinator_goes_on_from_the_catalog_and_one_that_was_thought_dead_fires_nothing(
    world: World, daemon: PsycopgConnection, epoch: Epoch
) -> None:
    alert(world)
    look(daemon, epoch, NOW)
    newer = take_lease(daemon, "another")
    look(daemon, newer, NOW + 5)
    alert(world, name="more")

    with pytest.raises(FederatedError) as caught:
        look(daemon, epoch, NOW + 10)

    assert caught.value.code is ErrorCode.FENCED
    assert [one["alert_name"] for one in firings(world)] == ["few"]
    look(daemon, newer, NOW + 10)
    assert [one["alert_name"] for one in firings(world)] == ["few", "more"]


def test_an_alert_that_no_statement_made_hinders_no_other(
    world: World, daemon: PsycopgConnection, epoch: Epoch
) -> None:
    for place, conditions in enumerate(('[]', '[1]', '[{"metric": "active_nodes"}]',
                                        '[{"metric": "active_nodes", "operator": "~", "value": 1}]',
                                        '[{"metric": "nothing", "operator": "<", "value": 1}]',
                                        '[{"metric": "active_nodes", "operator": "<", "value": "NaN"}]')):  # fmt: skip
        world.query(
            "INSERT INTO federated.alert (workspace_id, name, conditions, target) "
            "SELECT workspace_id, %s, %s, 'pg:c' FROM federated.workspace",
            f"by_hand_{place}", conditions,
        )  # fmt: skip
    alert(world)

    look(daemon, epoch, NOW)

    assert [one["alert_name"] for one in firings(world)] == ["few"]


def test_the_view_has_exactly_the_metrics_of_the_language_and_what_is_unknown_is_null(
    world: World, daemon: PsycopgConnection
) -> None:
    found = {row["metric"]: row["value"] for row in world.query("SELECT * FROM federated_alert_metrics")}

    assert list(found) == list(METRICS)
    assert {name for name, value in found.items() if value is not None} == {
        "registered_nodes", "active_nodes", "slow_nodes", "failed_nodes", "pending_nodes", "running_runs", "queued_runs",
        "failed_runs_last_day", "refusals_last_hour", "refusals_last_day", "rejected_updates_last_day", "failed_deliveries",
        "breaches_last_day", "open_orders", "expired_orders",
    }  # fmt: skip


def test_metrics_are_those_of_the_workspace_and_of_several_models_the_worst(
    world: World, daemon: PsycopgConnection
) -> None:
    register(world, "a", "b", status="slow")
    world.execute("CREATE FEDERATED WORKSPACE another")
    world.query(
        "UPDATE federated.node SET last_seen = now() - interval '90 s', certificate_expires = now() + interval '36 h' WHERE name = 'a'"
    )
    world.query(
        "UPDATE federated.workspace SET options = options || '{\"privacy_budget\": 2}' WHERE name = %s",
        WORKSPACE,
    )
    for name, losses in (("one", (0.5, 0.75)), ("two", (0.9, 0.6))):
        world.execute(
            f"CREATE FEDERATED MODEL {name} IN WORKSPACE {WORKSPACE} WITH (algorithm = 'logistic_regression', features = ['x'], target = 'y')"
        )
        world.execute(f"START FEDERATED TRAINING {name}")
        world.query(
            "INSERT INTO federated.round (run_id, round_number, status, global_loss, global_accuracy, started_at, finished_at) "
            "SELECT r.run_id, l.place, 'closed', l.loss, 1 - l.loss, now() - interval '4 s', now() - l.place * interval '1 s' "
            "FROM federated.run AS r JOIN federated.model AS m USING (model_id), "
            "unnest(%s::float8[]) WITH ORDINALITY AS l (loss, place) WHERE m.name = %s",
            list(losses), name,
        )  # fmt: skip
    world.query(
        "INSERT INTO federated.participation (run_id, round_number, step, node_id, outcome, bytes_sent, bytes_received) "
        "SELECT d.run_id, d.round_number, 'train', n.node_id, (CASE n.name WHEN 'a' THEN 'received' ELSE 'refused' END)::federated.participation_outcome, "
        "1000000, 500000 FROM federated.round AS d, federated.node AS n WHERE d.round_number = 2"
    )
    world.query("UPDATE federated.run SET status = 'failed', finished_at = now()")
    found = {
        row["metric"]: row["value"]
        for row in world.query("SELECT * FROM federated_alert_metrics WHERE workspace_name = %s", WORKSPACE)
    }

    expected = {
        "total_epsilon": 2.0, "consumed_epsilon": 0.0, "remaining_epsilon": 2.0, "estimated_remaining_rounds": None,
        "registered_nodes": 2.0, "slow_nodes": 2.0, "active_nodes": 0.0, "failed_runs_last_day": 2.0, "running_runs": 0.0,
        "global_loss": 0.75, "global_accuracy": 0.25, "loss_delta": 0.25, "participating_nodes": 1.0, "dropped_nodes": 1.0,
        "round_duration_seconds": 2.0, "communication_mb": 3.0, "refusals_last_hour": 2.0, "refusals_last_day": 2.0,
        "rejected_updates_last_day": 0.0, "open_round_seconds": None, "audit_breaks": None,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["seconds_since_last_seen"] == pytest.approx(90, abs=30)
    assert found["certificate_expires_days"] == pytest.approx(1.5, abs=0.01)


def test_a_breach_is_one_row_while_it_goes_on_with_the_clocks_of_when_it_began(
    world: World, daemon: PsycopgConnection, epoch: Epoch
) -> None:
    def happens(at: float, node: str = "b", reason: str = "its certificate is not the pinned one") -> None:
        with daemon.transaction():
            raise_breach(daemon, epoch, WHERE, Breach.NODE_REFUSED, reason, node=NodeName(node), now=at)

    happens(NOW)
    happens(NOW + 23 * HOUR, reason="schön")
    happens(NOW + 46 * HOUR)
    happens(NOW + 46 * HOUR, "c")
    happens(NOW + 71 * HOUR)
    found = sorted(firings(world), key=lambda one: (one["fired_at"], one["observed"]["node"]))

    assert [(one["observed"]["node"], one["events"]) for one in found] == [("b", 3), ("c", 1), ("b", 1)]
    first = found[0]
    assert (first["kind"], first["alert_name"], first["status"]) == ("breach", "node_refused", "breach")
    assert (first["notify_authority_by"] - first["fired_at"]).total_seconds() == 72 * HOUR
    assert (first["notify_people_by"] - first["fired_at"]).total_seconds() == 60 * 24 * HOUR
    assert (first["last_event_at"] - first["fired_at"]).total_seconds() == 46 * HOUR
    assert (first["target"], first["failure"]) == (None, "the workspace's option breach_notify names nobody")
    events = world.query("SELECT details FROM federated.event WHERE kind = 'breach.raised'")
    assert [one["details"]["node"] for one in events] == ["b", "c", "b"]


def test_statements_refused_for_want_of_a_privilege_are_a_breach_although_they_are_undone(
    world: World, daemon: PsycopgConnection, epoch: Epoch
) -> None:
    world.query(
        "INSERT INTO federated.notifier (sends_mail, calls_hooks, allowed_hosts) VALUES (false, false, '{}')"
    )
    see_refusals(daemon, epoch, NOW)
    assert firings(world) == []
    with world.cluster.connect(world.database, user="an_operator") as operator:
        for statement in ("CREATE FEDERATED WORKSPACE mine", f"DROP FEDERATED WORKSPACE {WORKSPACE}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                operator.execute("CALL federated.execute(%s)", [statement])
        with pytest.raises(psycopg.errors.UndefinedObject):
            operator.execute("CALL federated.execute('DROP FEDERATED MODEL nothing')")
        operator.execute("SET default_transaction_read_only = on")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            operator.execute("CALL federated.execute('CREATE FEDERATED WORKSPACE mine')")

    see_refusals(daemon, epoch, NOW)
    see_refusals(daemon, epoch, NOW + 5)

    [breach] = firings(world)
    assert (breach["alert_name"], breach["workspace_name"], breach["events"]) == ("privilege_refused", "", 1)
    assert breach["observed"]["reason"].startswith("2 statements refused; ")


def test_refusals_are_told_to_every_workspace_that_names_somebody(
    world: World, daemon: PsycopgConnection, epoch: Epoch
) -> None:
    world.query(
        "INSERT INTO federated.notifier (sends_mail, calls_hooks, allowed_hosts) VALUES (true, false, '{}')"
    )
    world.execute(f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET (breach_notify = 'officer@example.com')")
    world.execute("CREATE FEDERATED WORKSPACE another")
    world.query("SELECT nextval('federated.privilege_refusal')")

    see_refusals(daemon, epoch, NOW)

    [breach] = firings(world)
    assert (breach["workspace_name"], breach["target"], breach["failure"]) == (
        WORKSPACE,
        "officer@example.com",
        None,
    )
    assert breach["next_attempt"] == breach["fired_at"]


def test_an_audit_log_that_does_not_hold_is_a_breach_and_a_metric(
    world: World, daemon: PsycopgConnection, epoch: Epoch
) -> None:
    def breaks() -> Any:
        [row] = world.query("SELECT value FROM federated_alert_metrics WHERE metric = 'audit_breaks'")
        return row["value"]

    verify_audit(daemon, epoch, NOW, 300)
    sound = breaks()
    world.query("UPDATE federated.audit SET details = '{}'")
    verify_audit(daemon, epoch, NOW + 299, 300)
    assert (sound, breaks(), firings(world)) == (0, 0, [])
    verify_audit(daemon, epoch, NOW + 300, 300)

    assert breaks() == 1
    [breach] = firings(world)
    assert (breach["alert_name"], breach["workspace_name"]) == ("audit_broken", WORKSPACE)
    assert breach["observed"] == {"reason": "entry 1 is not what was recorded"}


@pytest.fixture
def config(world: World) -> CoordinatorConfig:
    return CoordinatorConfig.model_validate({
        "database": world.cluster.dsn(world.database, user="heliosdb_daemon"), "certificate": "c", "private_key": "k",
        "state_directory": "s", "alerts": {"smtp": {"host": "localhost", "sender": "a@example.com"}},
    })  # fmt: skip


async def test_what_is_not_taken_is_tried_again_under_its_id_ever_later_until_it_is_given_up(
    world: World, daemon: PsycopgConnection, epoch: Epoch, config: CoordinatorConfig
) -> None:
    world.query(
        "INSERT INTO federated.notifier (sends_mail, calls_hooks, allowed_hosts) VALUES (true, true, '{}')"
    )
    alert(world, target="https://example.com/in?token=secret")
    async with CatalogSession(config.database.get_secret_value(), "alerts") as session:
        at = await desk(config, epoch, session)
        at.failures[:] = [FederatedError(ErrorCode.UNREACHABLE, "it answered 503")] * 2
        pauses: list[float] = []
        with hearing() as heard:
            for after in (0.0, 9.0, 1.0, 19.0, 1.0, 60.0):
                await at.look(after)
                [row] = firings(world)
                pauses.append(row["attempts"])

    assert heard.of(NOTICES) == {("failed",): 2, ("delivered",): 1}
    assert pauses == [1, 1, 2, 2, 3, 3]
    assert at.told == [str(row["firing_id"])] * 3
    assert row["failure"] is None
    assert (row["delivered_at"] - row["fired_at"]).total_seconds() == 30
    assert row["target"] == "https://example.com/..."


async def test_what_cannot_be_delivered_says_why_and_is_given_up_after_a_day_or_a_final_refusal(
    world: World, daemon: PsycopgConnection, epoch: Epoch, config: CoordinatorConfig
) -> None:
    world.query(
        "INSERT INTO federated.notifier (sends_mail, calls_hooks, allowed_hosts) VALUES (true, true, '{}')"
    )
    alert(world, target="nobody@example.com", name="refused")
    alert(world, target="https://example.com/in", name="away")
    async with CatalogSession(config.database.get_secret_value(), "alerts") as session:
        at = await desk(config, epoch, session, webhooks=None)
        at.failures.append(
            mail.FinalRefusalError(ErrorCode.UNREACHABLE, "the mail server refused the recipient: 550")
        )
        await at.look()
        first = {row["alert_name"]: row for row in firings(world)}
        await at.look(86_400)
        last = {row["alert_name"]: row for row in firings(world)}

    assert first["refused"]["failure"] == "the mail server refused the recipient: 550"
    assert first["refused"]["next_attempt"] is None
    assert (
        first["away"]["failure"]
        == "the coordinator has no secret to sign calls with (setting alerts.webhook_secret)"
    )
    assert first["away"]["next_attempt"] is not None
    assert (last["away"]["next_attempt"], last["away"]["attempts"], last["refused"]["attempts"]) == (
        None,
        2,
        1,
    )


async def test_nothing_is_sent_of_an_alert_that_was_dropped(
    world: World, daemon: PsycopgConnection, epoch: Epoch, config: CoordinatorConfig
) -> None:
    alert(world, target="a@example.com")
    look(daemon, epoch, NOW)
    world.execute("DROP FEDERATED ALERT few")
    async with CatalogSession(config.database.get_secret_value(), "alerts") as session:
        at = await desk(config, epoch, session)
        await at.look(10)

    [row] = firings(world)
    assert at.told == []
    assert (row["status"], row["failure"], row["next_attempt"]) == ("dropped", "the alert was dropped", None)


async def test_a_channel_is_told_once_in_the_transaction_that_records_it(
    world: World, daemon: PsycopgConnection, epoch: Epoch, config: CoordinatorConfig
) -> None:
    alert(world, target="pg:Watchers")
    with world.catalog() as listener:
        listener.execute('LISTEN "Watchers"')
        async with CatalogSession(config.database.get_secret_value(), "alerts") as session:
            at = await desk(config, epoch, session)
            await at.look()
            await at.look(10)
        listener.execute("NOTIFY \"Watchers\", 'end'")
        payloads = [one.payload for one in listener.notifies(timeout=300, stop_after=2)]

    told = json.loads(payloads[0])
    [row] = firings(world)
    assert payloads[1] == "end"
    assert told == {
        "id": str(row["firing_id"]), "kind": "alert", "workspace": WORKSPACE, "alert": "few",
        "fired_at": "2026-09-21T14:13:20+00:00", "conditions": "active_nodes < 3", "observed": {"active_nodes": 0.0},
    }  # fmt: skip
    assert (row["attempts"], row["failure"]) == (1, None)
    assert row["delivered_at"] == row["fired_at"]


async def test_a_firing_outlives_the_coordinators_end_before_and_after_it_was_told(
    world: World, tmp_path: Path
) -> None:
    chain, bundle = write_identity(tmp_path, Authority.create("receivers"), "receiver", ["localhost"])
    create_workspace(world, min_nodes=2)
    with mail_server(chain) as box, world.catalog() as listener:
        async with hook_server(chain) as server:
            settings = {
                "alerts.period": 0.1, "alerts.webhook_secret": "a-secret-of-enough-length", "alerts.allowed_hosts": ["localhost"],
                "alerts.webhook_ca_bundle": str(bundle), "alerts.smtp.host": "localhost", "alerts.smtp.port": box.port,
                "alerts.smtp.user": USER, "alerts.smtp.password": PASSWORD, "alerts.smtp.sender": "alerts@example.com",
                "alerts.smtp.ca_bundle": str(bundle),
            }  # fmt: skip
            coordinator = world.start_coordinator(faults="coordinator.alert.fired=kill", **settings)
            await world.reached("EXISTS (SELECT FROM federated.notifier)")
            listener.execute("LISTEN watchers")
            alert(world, target=f"https://localhost:{server.port}/in?token=secret", name="hook")
            await coordinator.died()
            assert [one["alert_name"] for one in firings(world)] == ["hook"]
            assert server.posted == []
            # The attempt that it counted before it ended is made again; the test does not wait for that.
            await world.start_coordinator(faults="coordinator.alert.sent=kill", **settings).died()
            world.query("UPDATE federated.firing SET next_attempt = now() WHERE delivered_at IS NULL")
            alert(world, target="officer@example.com", name="mail")
            alert(world, target="pg:watchers", name="channel")
            last = world.start_coordinator(**settings)
            await world.reached("(SELECT count(delivered_at) = 3 FROM federated.firing)")
            listener.execute("NOTIFY watchers, 'end'")
            payloads = [one.payload for one in listener.notifies(timeout=300, stop_after=2)]
    found = {one["alert_name"]: one for one in firings(world)}

    assert len(found) == len(firings(world)) == 3
    assert {one.headers["Idempotency-Key"] for one in server.posted} == {str(found["hook"]["firing_id"])}
    assert (len(server.posted), found["hook"]["attempts"]) == (2, 2)
    assert [one["Message-ID"] for one in box.mails] == [f"<{found['mail']['firing_id']}@example.com>"]
    assert json.loads(payloads[0])["alert"] == "channel"
    assert payloads[1] == "end"
    for secret in ("a-secret-of-enough-length", PASSWORD, "token=secret"):
        assert secret not in "".join(one.log.read_text() for one in world.coordinators), last
        assert secret not in str(world.query("SELECT * FROM federated_alerts"))
        assert secret not in str(world.query("SELECT * FROM federated_audit_log"))


async def test_a_lying_and_a_strange_node_are_breaches_that_are_told_of(world: World) -> None:
    create_workspace(world, min_nodes=2, breach_notify="pg:breaches")
    with world.catalog() as listener:
        listener.execute("LISTEN breaches")
        async with served(world, {"b": overweight}) as nodes:
            stranger = world.federation.authority.issue("d", ["127.0.0.1"])
            world.federation.write("d", stranger)
            world.execute(
                f"REGISTER FEDERATED NODE 'd' IN WORKSPACE {WORKSPACE} WITH (endpoint = 'https://127.0.0.1:{nodes['a'].port}', "
                f"certificate = '{world.federation.directory / 'd'}.pem')"
            )
            create_model(world, rounds=1)
            world.execute("START FEDERATED TRAINING risk")
            world.start_coordinator(**{"alerts.period": 0.1})
            run = await world.finished()
            await world.reached("(SELECT count(delivered_at) = 2 FROM federated.firing)")
        told = [json.loads(one.payload) for one in listener.notifies(timeout=300, stop_after=2)]

    assert run["status"] == "completed", run
    found = {one["alert"]: one["observed"] for one in told}
    assert found["update_rejected"] == {
        "node": "b", "reason": "its weight 61 is more than the 60 rows that it stated in round 0",
    }  # fmt: skip
    assert found["node_refused"]["node"] == "d"
    assert found["node_refused"]["reason"].endswith("is not the pinned one")
    assert all(one["notify_authority_by"] > one["fired_at"] for one in told)

"""A catalog of the released version with something in every part of it; its own library is no longer there.

What always holds: only INSERTs and the catalog's own functions fill it, since statements need the library of its
version: what triggers append (the audit chain, the functions of versions and tags) is the released version's work.
"""

from __future__ import annotations

from typing import Any

import psycopg

from tests.support.catalog_snapshot import EXTENSION

RELEASED = "1.1"
TABLES = (
    "workspace", "node", "model", "run", "round", "participation", "run_parameters", "version", "ledger", "lease",
    "event", "dataset", "release", "spending", "agreement", "tag", "checkpoint", "phase", "contribution", "audit",
    "audit_head", "audit_origin",
)  # fmt: skip

_FILL = (
    "INSERT INTO federated.workspace (name, options)"
    " VALUES ('clinics', '{\"min_nodes\": 2, \"privacy_budget\": 3}')",
    "INSERT INTO federated.node (workspace_id, name, options, status)"
    " SELECT workspace_id, n, '{\"endpoint\": \"https://a:1\"}', 'active'"
    " FROM federated.workspace, unnest('{a,b}'::text[]) AS n",
    "INSERT INTO federated.model (workspace_id, name, options)"
    " SELECT workspace_id, 'risk', '{\"features\": [\"age\", \"smoker\"]}' FROM federated.workspace",
    "INSERT INTO federated.run (model_id, status, options, policy, finished_at)"
    " SELECT model_id, 'completed', '{\"rounds\": 1}', '{\"workspace\": \"clinics\", \"privacy_budget\": 3}', now()"
    " FROM federated.model",
    "INSERT INTO federated.round (run_id, round_number, status) SELECT run_id, 1, 'closed' FROM federated.run",
    "INSERT INTO federated.participation (run_id, round_number, step, node_id, outcome, weight)"
    " SELECT run_id, 1, s, node_id, 'received', 10 FROM federated.run, federated.node,"
    " unnest('{train,evaluate}'::text[]) AS s",
    "INSERT INTO federated.contribution SELECT run_id, 1, node_id, 0.5 FROM federated.run, federated.node",
    "INSERT INTO federated.phase (run_id, round_number, phase, duration_seconds)"
    " SELECT run_id, 1, 'aggregation', 0.5 FROM federated.run",
    "INSERT INTO federated.run_parameters SELECT run_id, 1, '\\x01', '\\x02' FROM federated.run",
    "INSERT INTO federated.version (model_id, version, run_id, round_number, features, scaling, sealed, sha256,"
    " is_current, prediction) SELECT model_id, 1, run_id, 1, '{age,smoker}', '{}', '\\x01', '\\x02', true,"
    ' \'{"booleans": [false, true], "intercept": 0.25, "slopes": [0.5, 2], "fills": [40, 0.5], "shifts": [0, 0],'
    ' "link": "identity", "target_mean": 0, "target_scale": 1}\' FROM federated.run',
    "SELECT federated._publish_function(model_id, 1, run_id, '{age,smoker}', '{f,t}', 0.25, '{0.5,2}', '{40,0.5}',"
    " '{0,0}', 'identity', 0, 1) FROM federated.run",
    "INSERT INTO federated.tag (model_id, name, version) SELECT model_id, 'good', 1 FROM federated.model",
    "INSERT INTO federated.checkpoint (model_id, run_id, path, round_number, size_bytes, sha256)"
    " SELECT model_id, run_id, '/x', 1, 1, '\\x02' FROM federated.run",
    "INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name, state,"
    " noise_multiplier, sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight)"
    " SELECT 'clinics', run_id, 'risk', 1, s.step, n, 'charged', 1, 1, 1, 0.4, 0.4 * s.place, 0.3 * s.place"
    " FROM federated.run, unnest('{a,b}'::text[]) AS n, (VALUES (1, 'train'), (2, 'evaluate')) AS s (place, step)",
    "INSERT INTO federated.lease (epoch, holder) VALUES (1, 'coordinator')",
    "INSERT INTO federated.event (epoch, run_id, kind) SELECT 1, run_id, 'run.claimed' FROM federated.run",
    "CREATE TABLE public.patients (age integer, smoker boolean)",
    "CREATE VIEW federated_dataset.patients WITH (security_barrier) AS SELECT age, smoker FROM public.patients",
    "GRANT SELECT ON federated_dataset.patients TO federated_reader",
    "INSERT INTO federated.dataset (name, workspace, relation, columns, types)"
    " VALUES ('patients', 'clinics', 'public.patients', '{age,smoker}', '{integer,boolean}')",
    "INSERT INTO federated.release (workspace, run_id, round_number, step, node_name, dataset, task_sha256, header,"
    " payload, payload_bytes) SELECT 'clinics', run_id, 1, s, 'a', 'patients', '\\x03', '\\x04', '\\x05', 1"
    " FROM federated.run, unnest('{train,evaluate}'::text[]) AS s",
    "INSERT INTO federated.spending (dataset, relation, release_id, noise_multiplier, sampling_rate, steps,"
    " epsilon_basic, epsilon_tight, delta) SELECT 'patients', 'public.patients', release_id, 1, 1, 1, 0.4, 0.4, 1e-5"
    " FROM federated.release",
    "INSERT INTO federated.agreement (workspace, relation, epsilon, delta)"
    " VALUES ('clinics', 'public.patients', 3, 1e-5)",
    "UPDATE federated.model SET options = options || '{\"target\": \"outcome\"}'",
)  # fmt: skip


def install(session: psycopg.Connection[Any], version: str) -> None:
    """Install the extension as `version` made it."""
    session.execute(f"CREATE EXTENSION {EXTENSION} VERSION '{version}'")  # type: ignore[arg-type]


def fill(session: psycopg.Connection[Any]) -> None:
    """Put rows into every table, and functions for a model, its version and its tag."""
    for statement in _FILL:
        session.execute(statement)  # type: ignore[arg-type]

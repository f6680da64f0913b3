"""Statements about nodes that dial the coordinator: no endpoint, and a certificate."""

from __future__ import annotations

import json

import pytest

from tests.unit.extension.accepting_server import NODE, WORKSPACE, refused, run, server

FLOWER = {**WORKSPACE, "options": '{"communication_protocol": "flower"}'}
HTTPS = {**WORKSPACE, "options": '{"communication_protocol": "https"}'}
DIALLING = {**NODE, "options": '{"certificate": "/etc/n.pem"}'}


@pytest.mark.parametrize("workspace", [HTTPS, FLOWER])
def test_a_node_that_is_not_dialled_is_registered_by_its_certificate_alone(
    workspace: dict[str, object],
) -> None:
    plpy = server(lock_workspace=[workspace], list_nodes=[])
    statement = "REGISTER FEDERATED NODE 'b' IN WORKSPACE w WITH (certificate = '/etc/b.pem')"
    assert run(plpy, statement) is None
    ((name, values),) = [one for one in plpy.written if one[0] == "insert_node"]
    assert name == "insert_node"
    assert json.loads(str(values[2])) == {"certificate": "/etc/b.pem"}


def test_two_nodes_without_an_endpoint_are_not_taken_for_one() -> None:
    plpy = server(lock_workspace=[HTTPS], list_nodes=[DIALLING])
    statement = "REGISTER FEDERATED NODE 'b' IN WORKSPACE w WITH (certificate = '/etc/b.pem')"
    assert run(plpy, statement) is None


@pytest.mark.parametrize(
    ("statement", "told", "hint"),
    [
        ("REGISTER FEDERATED NODE 'b' IN WORKSPACE w WITH (endpoint = 'https://b:1', certificate = '/b.pem')",
         'endpoint has no effect: the nodes of workspace "w" dial the coordinator', "Leave out endpoint"),
        ("REGISTER FEDERATED NODE 'b' IN WORKSPACE w", 'node "b" has no certificate', "Add WITH (certificate"),
        ("ALTER FEDERATED NODE 'n' IN WORKSPACE w SET (endpoint = 'https://n:1')", "endpoint has no effect", "Leave out"),
        ("ALTER FEDERATED NODE 'n' IN WORKSPACE w SET (backup_endpoint = 'https://n:1')", "backup_endpoint has no effect",
         "Leave out"),
        ("ALTER FEDERATED NODE 'n' IN WORKSPACE w RESET (certificate)", 'node "n" has no certificate', "Add WITH"),
        ("ALTER FEDERATED WORKSPACE w SET (keepalive_interval = 10)", "keepalive_interval has no effect with", "setting"),
        ("ALTER FEDERATED WORKSPACE w SET (reconnect_interval = 10)", "reconnect_interval has no effect with", "within 5"),
    ],
)  # fmt: skip
def test_what_has_no_effect_or_finds_no_node_is_refused(statement: str, told: str, hint: str) -> None:
    error = refused(server(lock_workspace=[HTTPS], list_nodes=[DIALLING]), statement)
    assert error["sqlstate"] == "22023"
    assert told in error["message"]
    assert hint in error["hint"]


@pytest.mark.parametrize(
    ("statement", "told", "hint"),
    [
        ("REGISTER FEDERATED NODE 'b' IN WORKSPACE w WITH (endpoint = 'https://b:1', certificate = '/b.pem')",
         'endpoint has no effect: the nodes of workspace "w" are reached over Flower', "flower_socket"),
        ("REGISTER FEDERATED NODE 'b' IN WORKSPACE w", 'node "b" has no certificate', "Add WITH (certificate"),
        ("ALTER FEDERATED WORKSPACE w SET (keepalive_interval = 10)",
         "keepalive_interval has no effect with communication_protocol = 'flower'", "Flower keeps"),
        ("ALTER FEDERATED WORKSPACE w SET (reconnect_interval = 10)",
         "reconnect_interval has no effect with communication_protocol = 'flower'", "there again"),
    ],
)  # fmt: skip
def test_what_has_no_effect_over_flower_is_refused(statement: str, told: str, hint: str) -> None:
    error = refused(server(lock_workspace=[FLOWER], list_nodes=[DIALLING]), statement)
    assert error["sqlstate"] == "22023"
    assert told in error["message"]
    assert hint in error["hint"]


@pytest.mark.parametrize(
    ("workspace", "node", "change"),
    [
        (HTTPS, DIALLING, "SET (communication_protocol = 'flower')"),
        (FLOWER, DIALLING, "SET (communication_protocol = 'https')"),
        (WORKSPACE, NODE, "SET (communication_protocol = 'https')"),
        (HTTPS, DIALLING, "SET (communication_protocol = 'grpc')"),
        (HTTPS, DIALLING, "RESET (communication_protocol)"),
    ],
)
def test_who_dials_is_not_changed_under_registered_nodes(
    workspace: dict[str, object], node: dict[str, object], change: str
) -> None:
    plpy = server(lock_workspace=[workspace], list_nodes=[node])
    error = refused(plpy, f"ALTER FEDERATED WORKSPACE w {change}")
    assert error["sqlstate"] == "55000"
    assert "the workspace has 1 node" in error["message"]
    assert "Unregister the nodes first" in error["hint"]


def test_who_dials_is_changed_while_no_node_is_registered() -> None:
    plpy = server(list_nodes=[])
    assert run(plpy, "ALTER FEDERATED WORKSPACE w SET (communication_protocol = 'https')") is None

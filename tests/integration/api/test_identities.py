"""Who is let in, and as whom: tokens as SQL makes them, JWTs and certificates over a real connection."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from psycopg import errors, sql

from heliosdb.transport.authority import Authority
from heliosdb.transport.rpc import grpc
from tests.integration.api.stack import LOGIN, PREFIX, Api, drop_roles, make_roles, make_token, running_api
from tests.integration.coordinator.support import World, make_world
from tests.support.cluster import Cluster
from tests.support.ports import free_port

KEY = ec.generate_private_key(ec.SECP256R1())
ISSUER = "https://idp.example.com"
GRPC_PORT = free_port()


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A catalog, and roles; no node and no coordinator."""
    database = cluster.create_database("federated_template")
    with make_world(cluster, tmp_path_factory.mktemp("api"), database) as made:
        try:
            yield made
        finally:
            cluster.drop_database(database)
            drop_roles(made)


@pytest.fixture(scope="module")
def api(world: World) -> Iterator[Api]:
    """An API with TLS, an authority of clients and an identity provider."""
    directory = world.federation.directory
    world.federation.write("api", world.federation.authority.issue("api", ["localhost", "127.0.0.1"]))
    (directory / "authority.pem").write_bytes(world.federation.authority.certificate_pem)
    key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key()))
    (directory / "keys.json").write_text(json.dumps({"keys": [{**key, "kid": "k"}]}))
    tokens = make_roles(world)
    settings = {
        "grpc_port": GRPC_PORT,
        "certificate": str(directory / "api.pem"),
        "private_key": str(directory / "api.key"),
        "client_certificates": {
            "authority": str(directory / "authority.pem"),
            "roles": {"dns:ann": "rest_operator", "dns:root": "postgres", "dns:ghost": "no_such_role"},
        },
        "oidc": {
            "issuer": ISSUER, "audience": "heliosdb", "jwks": str(directory / "keys.json"),
            "roles": {"ann": "rest_analyst", "root": "postgres", "daemon": "federated_daemon", "other": "an_analyst"},
        },
    }  # fmt: skip
    with running_api(world, "api", tokens, **settings) as made:
        made.verify = ssl.create_default_context(cafile=str(directory / "authority.pem"))
        yield made


def get(api: Api, path: str = "/workspaces", identity: str | None = None, **headers: str) -> httpx.Response:
    context = ssl.create_default_context(cafile=str(api.world.federation.directory / "authority.pem"))
    if identity is not None:
        directory = api.world.federation.directory
        context.load_cert_chain(directory / f"{identity}.pem", directory / f"{identity}.key")
    with httpx.Client(base_url=api.url + PREFIX, verify=context, timeout=120) as client:
        return client.get(path, headers=headers)


def with_jwt(api: Api, **changes: Any) -> httpx.Response:
    claims = {"iss": ISSUER, "aud": "heliosdb", "sub": "ann", "exp": int(time.time()) + 60} | changes
    text = jwt.encode(claims, KEY, "ES256", headers={"kid": "k"})
    return get(api, Authorization=f"Bearer {text}")


def test_a_jwt_runs_as_its_role_and_no_other(api: Api) -> None:
    assert with_jwt(api).status_code == 200
    refused = [
        with_jwt(api, **changes)
        for changes in ({"iss": "https://evil.example.com"}, {"aud": "x"}, {"exp": 1}, {"sub": "root"}, {"sub": "daemon"}, {"sub": "eve"})
    ]  # fmt: skip
    unsigned = jwt.encode({"iss": ISSUER, "aud": "heliosdb", "sub": "ann", "exp": int(time.time()) + 60}, None, "none", headers={"kid": "k"})  # fmt: skip
    refused.append(get(api, Authorization=f"Bearer {unsigned}"))
    assert [answer.status_code for answer in refused] == [401] * 7
    assert len({answer.text for answer in refused}) == 1
    # Nobody granted this one to the API's own role.
    refused_role = with_jwt(api, sub="other")
    assert refused_role.status_code == 403
    assert "GRANT" not in refused_role.text
    assert r"GRANT \"an_analyst\" TO \"rest_login\"" in api.log.read_text()


def test_a_certificate_runs_as_the_role_of_its_name(api: Api) -> None:
    federation = api.world.federation
    for name in ("ann", "root", "ghost", "eve"):
        federation.write(name, federation.authority.issue(name, [name]))
    assert get(api, "/openapi.json", "ann").status_code == 200
    assert [get(api, identity=name).status_code for name in ("root", "ghost", "eve")] == [401] * 3
    assert get(api).status_code == 401
    stranger = Authority.create("stranger")
    federation.write("strange", stranger.issue("ann", ["ann"]))
    with pytest.raises(httpx.HTTPError):
        get(api, identity="strange")
    # A bearer token beside a certificate decides alone.
    nobody = get(api, identity="ann", Authorization=f"Bearer {api.tokens['rest_nobody']}")
    assert nobody.status_code == 403
    assert "max-age" in nobody.headers["strict-transport-security"]


def ask_grpc(api: Api, method: str, text: str | None, body: bytes = b"", identity: str | None = None) -> str:
    """The name of the status of a call over TLS. identity: whose certificate is shown."""
    directory = api.world.federation.directory
    shown = (
        [None, None]
        if identity is None
        else [(directory / f"{identity}.{end}").read_bytes() for end in ("key", "pem")]
    )
    credentials = grpc.ssl_channel_credentials((directory / "authority.pem").read_bytes(), *shown)
    metadata = () if text is None else (("authorization", f"Bearer {text}"),)
    with grpc.secure_channel(f"localhost:{GRPC_PORT}", credentials) as channel:
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        try:
            call(body, metadata=metadata, timeout=120)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def test_grpc_knows_tokens_and_jwts_over_tls(api: Api) -> None:
    federation = api.world.federation
    federation.write("grpc", federation.authority.issue("ann", ["ann"]))
    claims = {"iss": ISSUER, "aud": "heliosdb", "sub": "ann", "exp": int(time.time()) + 60}
    expired = jwt.encode({**claims, "exp": int(time.time()) - 3600}, KEY, "ES256", headers={"kid": "k"})
    asked = {
        jwt.encode(claims, KEY, "ES256", headers={"kid": "k"}): "OK",
        api.tokens["rest_analyst"]: "OK",
        api.tokens["rest_nobody"]: "PERMISSION_DENIED",
        api.tokens["rest_analyst"][:-1]: "UNAUTHENTICATED",
        expired: "UNAUTHENTICATED",
        None: "UNAUTHENTICATED",
    }
    assert {text: ask_grpc(api, "ServerMetadata", text) for text in asked} == asked
    # A certificate is not asked for, and is nobody's.
    assert ask_grpc(api, "ServerMetadata", None, identity="grpc") == "UNAUTHENTICATED"
    assert ask_grpc(api, "ServerLive", None) == "OK"
    analyst = api.tokens["rest_analyst"]
    assert ask_grpc(api, "ModelInfer", analyst, b"\xff") == "INVALID_ARGUMENT"
    assert ask_grpc(api, "ModelInfer", analyst, bytes(2 << 20)) == "RESOURCE_EXHAUSTED"
    assert ask_grpc(api, "ModelStream", analyst) == "UNIMPLEMENTED"
    with grpc.insecure_channel(f"localhost:{GRPC_PORT}") as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=120)


def as_role(api: Api, role: str) -> psycopg.Connection[Any]:
    connection = api.world.cluster.connect(api.world.database)
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    return connection


@pytest.mark.parametrize(
    ("role", "statement", "error"),
    [
        ("rest_analyst", "SELECT federated_create_token('rest_operator')", errors.InsufficientPrivilege),
        ("rest_analyst", "SELECT federated_create_token('no_such_role')", errors.UndefinedObject),
        ("rest_analyst", "SELECT federated_create_token('rest_analyst', '366 days')", errors.InvalidParameterValue),
        ("rest_analyst", "SELECT federated_create_token('rest_analyst', '2 years')", errors.InvalidParameterValue),
        ("rest_analyst", "SELECT federated_create_token('rest_analyst', '-1 s')", errors.InvalidParameterValue),
        ("rest_analyst", "SELECT federated_create_token('rest_analyst', 'infinity')", (errors.InvalidParameterValue, errors.DataError)),
        ("rest_analyst", "SELECT federated_create_token('rest_analyst', NULL)", errors.NullValueNotAllowed),
        ("rest_analyst", "SELECT federated_create_token('rest_analyst', '1 day', repeat('x', 1001))", errors.CheckViolation),
        ("rest_analyst", "SELECT token_sha256 FROM federated.api_token", errors.InsufficientPrivilege),
        ("rest_analyst", "UPDATE federated_tokens SET expires_at = 'infinity'", errors.InsufficientPrivilege),
        ("rest_analyst", "SELECT federated._authenticate('x')", errors.InsufficientPrivilege),
        ("rest_analyst", "SELECT federated_revoke_token(gen_random_uuid())", errors.UndefinedObject),
        ("rest_nobody", "SELECT federated_create_token('rest_nobody')", errors.InsufficientPrivilege),
        ("postgres", "SELECT federated_create_token('postgres')", errors.InvalidParameterValue),
        ("postgres", "SELECT federated_create_token('federated_daemon')", errors.InvalidParameterValue),
        ("postgres", f"SELECT federated_create_token('{LOGIN}')", errors.InvalidParameterValue),
        ("federated_api", "SELECT * FROM federated.api_token", errors.InsufficientPrivilege),
        ("federated_api", "SELECT * FROM federated.workspace", errors.InsufficientPrivilege),
    ],
)  # fmt: skip
def test_what_tokens_cannot_be_is_refused(api: Api, role: str, statement: str, error: Any) -> None:
    with as_role(api, role) as connection, pytest.raises(error):
        connection.execute(statement.encode())


def test_a_row_that_is_inserted_past_the_function_is_held_to_the_same(api: Api) -> None:
    insert = (
        "INSERT INTO federated.api_token (role_id, token_sha256, description, expires_at)"
        " VALUES (%s::regrole, sha256('x'), '', now() + %s::interval)"
    )
    for role, valid, error in (
        ("rest_admin", "1 day", errors.InsufficientPrivilege),
        ("rest_analyst", "2 years", errors.InvalidParameterValue),
    ):
        with as_role(api, "rest_analyst") as connection, pytest.raises(error):
            connection.execute(insert.encode(), [role, valid])


def test_a_role_has_so_many_tokens_and_no_more(api: Api) -> None:
    with api.world.cluster.connect(api.world.database) as connection:
        connection.execute("CREATE ROLE rest_hoarder IN ROLE federated_analyst")
    try:
        make = "SELECT federated_create_token('rest_hoarder', '1 hour')"
        with as_role(api, "rest_hoarder") as connection:
            connection.execute(f"{make} FROM generate_series(1, 100)".encode())
            with pytest.raises(errors.ProgramLimitExceeded) as caught:
                connection.execute(make.encode())
            assert "federated_revoke_token" in (caught.value.diag.message_hint or "")
            one = "SELECT federated_revoke_token(token_id) FROM (SELECT token_id FROM federated_tokens LIMIT 1) AS t"
            connection.execute(one.encode())
            connection.execute(make.encode())
            with pytest.raises(errors.ProgramLimitExceeded):
                connection.execute(make.encode())
        with as_role(api, "postgres") as connection:
            # What time does by itself.
            connection.execute("SET session_replication_role = replica")
            connection.execute(
                "UPDATE federated.api_token SET expires_at = now() WHERE role_name = 'rest_hoarder'"
            )
        with as_role(api, "rest_hoarder") as connection:
            connection.execute(make.encode())
    finally:
        with as_role(api, "postgres") as connection:
            connection.execute("DELETE FROM federated.api_token WHERE role_name = 'rest_hoarder'")
            connection.execute("DROP ROLE rest_hoarder")


def test_a_membership_without_the_right_to_become_the_role_makes_no_token(api: Api) -> None:
    with as_role(api, "postgres") as connection:
        if connection.info.server_version < 160_000:
            pytest.skip("memberships have no options before PostgreSQL 16")
        connection.execute("GRANT rest_admin TO rest_analyst WITH INHERIT FALSE, SET FALSE")
        try:
            connection.execute("SET ROLE rest_analyst")
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute("SELECT federated_create_token('rest_admin')")
        finally:
            connection.execute("RESET ROLE")
            connection.execute("REVOKE rest_admin FROM rest_analyst")


PLANTED = """
    CREATE TABLE public.caught (who name);
    GRANT INSERT ON public.caught TO PUBLIC;
    CREATE FUNCTION public.format(a text, b name) RETURNS text LANGUAGE plpgsql AS
        'BEGIN INSERT INTO public.caught VALUES (session_user); RETURN pg_catalog.format(a, b); END';
    CREATE FUNCTION public.quote_ident(a name) RETURNS text LANGUAGE plpgsql AS
        'BEGIN INSERT INTO public.caught VALUES (session_user); RETURN pg_catalog.quote_ident(a); END';
    CREATE FUNCTION public.pg_has_role(a oid, b varchar) RETURNS boolean LANGUAGE plpgsql AS
        'BEGIN INSERT INTO public.caught VALUES (session_user); RETURN true; END';
    CREATE FUNCTION public.set_config(a text, b name, c boolean) RETURNS text LANGUAGE plpgsql AS
        'BEGIN INSERT INTO public.caught VALUES (session_user); RETURN pg_catalog.set_config(a, b, c); END';
"""
UNPLANTED = """
    DROP TABLE public.caught;
    DROP FUNCTION public.format(text, name), public.quote_ident(name), public.pg_has_role(oid, varchar),
        public.set_config(text, name, boolean);
"""


def test_functions_that_others_created_are_not_called_as_the_apis_role(api: Api) -> None:
    with as_role(api, "postgres") as connection:
        connection.execute(PLANTED.encode())
        try:
            with running_api(api.world, "planted", api.tokens) as other:
                assert other.call("rest_analyst", "GET", "/workspaces").status_code == 200
                assert other.call("rest_nobody", "GET", "/workspaces").status_code == 403
            assert connection.execute("SELECT who FROM public.caught").fetchall() == []
        finally:
            connection.execute(UNPLANTED.encode())


def test_more_tokens_give_a_role_no_more_calls_and_connections(api: Api) -> None:
    tokens = [make_token(api.world, "rest_analyst") for _ in range(3)]
    rate = {"per_second": 0.001, "burst": 6}

    def status(other: Api, token: str, path: str = "/workspaces") -> int:
        answer = httpx.get(
            other.url + PREFIX + path, headers={"Authorization": f"Bearer {token}"}, timeout=120
        )
        assert answer.status_code != 429 or int(answer.headers["retry-after"]) > 0
        return answer.status_code

    with running_api(
        api.world, "narrow", api.tokens, connections=2, connection_timeout=1, identity_rate=rate
    ) as other, ThreadPoolExecutor(1) as pool:  # fmt: skip
        with as_role(api, "postgres") as connection, connection.transaction():
            connection.execute("LOCK TABLE federated.workspace")
            held = pool.submit(status, other, tokens[0])
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND wait_event_type = 'Lock'"
            while connection.execute(waiting, [LOGIN]).fetchone() != (1,):
                connection.execute("SELECT pg_stat_clear_snapshot()")
                assert not held.done()
            # One of two connections is the most that a role has; the other one serves the others.
            assert status(other, tokens[1], "/openapi.json") == 429
            assert status(other, api.tokens["rest_auditor"], "/openapi.json") == 200
        assert held.result() == 200
        assert [status(other, token) for token in tokens[:2] * 2] == [200] * 4
        assert [status(other, token) for token in tokens] == [429] * 3
        assert status(other, api.tokens["rest_auditor"]) == 200


def test_tokens_are_shown_to_those_they_concern_and_revoked_by_them(api: Api) -> None:
    def shown(role: str) -> set[str]:
        with as_role(api, role) as connection:
            return {
                row[0] for row in connection.execute("SELECT DISTINCT role FROM federated_tokens").fetchall()
            }

    assert shown("rest_analyst") == {"rest_analyst"}
    assert (
        {"rest_admin", "rest_analyst", "rest_auditor", "rest_nobody"}
        <= shown("rest_auditor")
        == shown("rest_admin")
    )
    with as_role(api, "rest_analyst") as connection:
        connection.execute("SELECT federated_create_token('rest_analyst', description => 'mine')")
        [(token_id, created_by, status)] = connection.execute(
            "SELECT token_id, created_by, status FROM federated_tokens WHERE description = 'mine'"
        ).fetchall()
        assert (created_by, status) == ("rest_analyst", "valid")
    revoke = "SELECT federated_revoke_token(%s)"
    with as_role(api, "rest_operator") as connection, pytest.raises(errors.UndefinedObject):
        connection.execute(revoke, [token_id])
    with as_role(api, "rest_auditor") as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(revoke, [token_id])
    with as_role(api, "rest_admin") as connection:
        connection.execute(revoke, [token_id])
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            connection.execute(revoke, [token_id])
    with as_role(api, "rest_auditor") as connection:
        [(role, status)] = connection.execute(
            "SELECT revoked_by, status FROM federated_tokens WHERE token_id = %s", [token_id]
        ).fetchall()
        assert (role, status) == ("rest_admin", "revoked")
        entries = connection.execute(
            "SELECT acting_role, action, details -> 'after' ->> 'role_name' FROM federated_audit_log"
            " WHERE object_kind = 'api_token' AND object_name = %s ORDER BY recorded_at",
            [str(token_id)],
        ).fetchall()
    assert entries == [("rest_analyst", "insert", "rest_analyst"), ("rest_admin", "update", "rest_analyst")]


def test_the_apis_own_role_reaches_nothing_by_itself(api: Api) -> None:
    with api.world.cluster.connect(api.world.database, user=LOGIN) as connection:
        for statement in ("SELECT * FROM federated.workspace", "SELECT federated._authenticate('x')"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_a_dump_has_no_tokens(api: Api) -> None:
    with api.world.cluster.connect(api.world.database) as connection:
        rows = connection.execute(
            "SELECT c.relname, f.condition FROM pg_extension AS e, unnest(e.extconfig, e.extcondition) AS f (oid, condition)"
            " JOIN pg_class AS c ON c.oid = f.oid WHERE c.relname LIKE 'api\\_%' ORDER BY 1"
        ).fetchall()
    assert rows == [("api_request", "WHERE false"), ("api_token", "WHERE false")]

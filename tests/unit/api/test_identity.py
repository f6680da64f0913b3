"""Who calls: JWTs of the configured issuer, certificates with a name in the map, and nobody else."""

from __future__ import annotations

import base64
import datetime
import json
import time
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from fastapi import Request

from heliosdb.api.certificates import ClientCertificates
from heliosdb.api.config import CertificateSettings, OidcSettings
from heliosdb.api.database import Identity
from heliosdb.api.identity import BearerTokens, TokenClaim, VouchedClaim, identify
from heliosdb.api.oidc import KeySet, OidcTokens
from heliosdb.api.problems import Problem
from tests.unit.api.test_tokens import TOKEN

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SETTINGS = OidcSettings(
    issuer="https://idp.example.com",
    audience="heliosdb",
    jwks="https://idp.example.com/keys",
    claim="groups",
    roles={"clinicians": "clinic", "admins": "boss"},
    leeway=0,
)


def key_set(*extra: dict[str, Any]) -> bytes:
    keys = [
        {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key())), "kid": "r", "use": "sig"},
        {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC.public_key())), "kid": "e", "alg": "ES256"},
        *extra,
    ]
    return json.dumps({"keys": keys}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    made = {
        "iss": SETTINGS.issuer, "aud": "heliosdb", "sub": "ann", "exp": now + 300, "nbf": now - 10,
        "groups": ["clinicians"],
    } | changes  # fmt: skip
    return {name: value for name, value in made.items() if value is not None}


def request(*headers: tuple[str, str], **state: Any) -> Request:
    return Request(
        {"type": "http", "headers": [(n.encode(), v.encode()) for n, v in headers], "state": state}
    )


def bearer(text: str) -> Request:
    return request(("authorization", f"Bearer {text}"))


def oidc(**options: Any) -> OidcTokens:
    return OidcTokens(SETTINGS, KeySet("source", 300, lambda _: key_set(), **options))


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA, "RS256", "r"), (EC, "ES256", "e")])
async def test_a_jwt_of_the_issuer_stands_for_the_role_of_its_claim(
    key: Any, algorithm: str, kid: str
) -> None:
    text = jwt.encode(claims(), key, algorithm, headers={"kid": kid})
    assert await oidc().identify(bearer(text)) == VouchedClaim("clinic", "https://idp.example.com ann")


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example.com"}, {"aud": "other"}, {"aud": None}, {"iss": None}, {"sub": None},
        {"exp": 1}, {"exp": None}, {"nbf": 4_000_000_000}, {"groups": ["strangers"]}, {"groups": None},
        {"groups": {"clinicians": 1}}, {"groups": "clinician"},
    ],
)  # fmt: skip
async def test_a_jwt_with_a_wrong_claim_is_nobodys(changes: dict[str, Any]) -> None:
    text = jwt.encode(claims(**changes), RSA, "RS256", headers={"kid": "r"})
    with pytest.raises(Problem) as caught:
        await oidc().identify(bearer(text))
    assert caught.value.status == 401


def unsigned() -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none', 'kid': 'r'})}.{part(claims())}."


def with_public_key_as_secret() -> str:
    pem = RSA.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    import hashlib
    import hmac

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).decode().rstrip("=")

    signed = (
        f"{part(json.dumps({'alg': 'HS256', 'kid': 'r'}).encode())}.{part(json.dumps(claims()).encode())}"
    )
    return f"{signed}.{part(hmac.new(pem, signed.encode(), hashlib.sha256).digest())}"


@pytest.mark.parametrize(
    "text",
    [
        unsigned(),
        with_public_key_as_secret(),
        jwt.encode(claims(), STRANGER, "RS256", headers={"kid": "r"}),
        jwt.encode(claims(), RSA, "RS256", headers={"kid": "unknown"}),
        jwt.encode(claims(), RSA, "RS256"),
        jwt.encode(claims(), RSA, "RS512", headers={"kid": "r"}),
        jwt.encode(claims(), RSA, "PS256", headers={"kid": "r"}),
        jwt.encode(claims(), RSA, "RS256", headers={"kid": "e"}),
        jwt.encode(claims(), RSA, "RS256", headers={"kid": "r"})[:-4] + "AAAA",
        "a.b.c",
        "....",
        "x" * 20_000,
    ],
)
async def test_a_jwt_that_is_not_signed_as_it_has_to_be_is_nobodys(text: str) -> None:
    with pytest.raises(Problem) as caught:
        await oidc().identify(bearer(text))
    assert caught.value.status == 401


async def test_new_keys_are_fetched_but_not_for_every_unknown_one() -> None:
    read: list[str] = []
    now = [0.0]

    def fetch(source: str) -> bytes:
        read.append(source)
        if len(read) == 3:
            raise OSError("gone")
        return key_set()

    keys = KeySet("source", 300, fetch, lambda: now[0])
    assert await keys.find("r") is not None
    for number in range(20):
        assert await keys.find(f"unknown {number}") is None
    assert len(read) == 1
    now[0] = 11
    assert await keys.find("unknown") is None
    assert len(read) == 2
    now[0] = 400
    assert await keys.find("r") is not None, "what was read before stays while the provider is away"
    assert len(read) == 3


async def test_a_token_of_the_database_is_left_to_it() -> None:
    claim = await identify(bearer(TOKEN), [BearerTokens(), oidc()])
    assert isinstance(claim, TokenClaim)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Basic YTpi")],
        [("authorization", "Bearer ")],
        [("authorization", f"Bearer {TOKEN}"), ("authorization", f"Bearer {TOKEN}")],
        [("authorization", f"Bearer {TOKEN[:-1]}0")],
        [("authorization", TOKEN)],
        [("cookie", f"token={TOKEN}")],
    ],
)
async def test_whoever_shows_nothing_good_is_nobody(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(Problem) as caught:
        await identify(request(*headers), [BearerTokens()])
    assert caught.value.status == 401


def certificate(*names: x509.GeneralName, subject: str = "ann") -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    )  # fmt: skip
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


CERTIFICATES = ClientCertificates(
    CertificateSettings(
        authority="ca.pem",
        roles={
            "subject:CN=ann": "clinic",
            "dns:bob": "boss",
            "uri:spiffe://x/y": "clinic",
            "email:c@x": "clinic",
        },
    )
)


@pytest.mark.parametrize(
    ("shown", "role"),
    [
        (certificate(), "clinic"),
        (certificate(x509.DNSName("bob"), subject="bob"), "boss"),
        (certificate(x509.UniformResourceIdentifier("spiffe://x/y"), subject="z"), "clinic"),
        (certificate(x509.RFC822Name("c@x"), x509.DNSName("other")), "clinic"),
    ],
)
async def test_a_certificate_stands_for_the_role_of_its_name(shown: bytes, role: str) -> None:
    claim = await CERTIFICATES.identify(request(client_certificate=shown))
    assert isinstance(claim, VouchedClaim)
    assert claim.role == role


@pytest.mark.parametrize(
    "shown", [certificate(subject="eve"), certificate(subject="ann,O=x"), certificate(x509.DNSName("bob"))]
)
async def test_a_certificate_with_another_name_or_names_of_two_roles_is_nobodys(shown: bytes) -> None:
    with pytest.raises(Problem) as caught:
        await CERTIFICATES.identify(request(client_certificate=shown))
    assert caught.value.status == 401


async def test_without_a_certificate_it_is_another_ways_turn() -> None:
    assert await CERTIFICATES.identify(request()) is None


def test_tokens_are_counted_by_their_role_and_whom_others_vouch_for_by_their_names() -> None:
    tokens = {Identity(TokenClaim(bytes([number])), "ann").key for number in range(3)}
    assert tokens == {Identity(TokenClaim(b"x"), "ann").key}
    assert tokens != {Identity(TokenClaim(b"x"), "bob").key}
    assert (
        Identity(VouchedClaim("clinic", "a"), "clinic").key
        != Identity(VouchedClaim("clinic", "b"), "clinic").key
    )

"""Tokens of an OpenID Connect issuer, whose keys come from a real HTTP server."""

import json
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from coordinator.domain.caller import Role
from coordinator.domain.clock import utc_now
from coordinator.errors import CredentialsInvalid, ServiceUnavailable
from coordinator.runtime import Runtime
from coordinator.services.credential import authenticate
from coordinator.store.tables import Tenant
from tests.builders import a_tenant, add

ISSUER = "https://issuer.example.org"
AUDIENCE = "nodewright"


class Issuer:
    """Publishes one key and signs tokens with it."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps({"keys": [issuer.public_key()]}).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing to tell."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/keys"

    def public_key(self) -> dict[str, Any]:
        described: dict[str, Any] = ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {**described, "kid": "one", "alg": "ES256", "use": "sig"}

    def token(self, key: ec.EllipticCurvePrivateKey | None = None, **claims: Any) -> str:
        content = {
            "sub": "ada",
            "iss": ISSUER,
            "aud": AUDIENCE,
            "exp": utc_now() + timedelta(minutes=5),
            "nodewright_role": "operator",
            **claims,
        }
        present = {name: value for name, value in content.items() if value is not None}
        return jwt.encode(present, key or self.key, algorithm="ES256", headers={"kid": "one"})


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def trusting(runtime: Runtime, issuer: Issuer) -> Runtime:
    """A coordinator that is configured for the issuer."""
    runtime.settings.oidc_jwks_url = issuer.url
    runtime.settings.oidc_issuer = ISSUER
    runtime.settings.oidc_audience = AUDIENCE
    return runtime


def test_token_of_the_issuer_is_accepted_with_its_role(trusting: Runtime, issuer: Issuer) -> None:
    caller = authenticate(trusting, f"Bearer {issuer.token()}")
    assert (caller.token_id, caller.role, caller.tenant_id) == ("oidc:ada", Role.OPERATOR, None)


def test_tenant_comes_from_its_claim(trusting: Runtime, issuer: Issuer) -> None:
    tenant: Tenant = a_tenant()
    with trusting.database.write() as session:
        add(session, tenant)
    token = issuer.token(nodewright_role=["viewer", "tenant"], nodewright_tenant=tenant.id)
    caller = authenticate(trusting, f"Bearer {token}")
    assert (caller.role, caller.tenant_id) == (Role.TENANT, tenant.id)


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"exp": utc_now() - timedelta(minutes=5)}, id="expired"),
        {"exp": None},
        {"sub": None},
        {"iss": "https://other.example.org"},
        {"aud": "another"},
        {"nodewright_role": None},
        {"nodewright_role": "king"},
        {"nodewright_role": "tenant"},
        {"nodewright_role": "tenant", "nodewright_tenant": "9" * 19},
        {"nodewright_role": "tenant", "nodewright_tenant": ["a"]},
    ],
    ids=str,
)
def test_unfit_token_is_refused(trusting: Runtime, issuer: Issuer, claims: dict[str, Any]) -> None:
    with pytest.raises(CredentialsInvalid):
        authenticate(trusting, f"Bearer {issuer.token(**claims)}")


def test_token_that_somebody_else_signed_is_refused(trusting: Runtime, issuer: Issuer) -> None:
    forged = issuer.token(key=ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(CredentialsInvalid):
        authenticate(trusting, f"Bearer {forged}")


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_token_without_a_public_key_signature_is_refused(trusting: Runtime, algorithm: str) -> None:
    claims = {"sub": "ada", "iss": ISSUER, "aud": AUDIENCE, "exp": utc_now() + timedelta(minutes=5)}
    secret = "" if algorithm == "none" else "a" * 32
    token = jwt.encode(claims | {"nodewright_role": "operator"}, secret, algorithm=algorithm, headers={"kid": "one"})
    with pytest.raises(CredentialsInvalid):
        authenticate(trusting, f"Bearer {token}")


def test_issuer_that_does_not_answer_is_no_fault_of_the_caller(trusting: Runtime, issuer: Issuer) -> None:
    trusting.settings.oidc_jwks_url = "http://127.0.0.1:9/keys"
    with pytest.raises(ServiceUnavailable):
        authenticate(trusting, f"Bearer {issuer.token()}")


def test_without_a_configured_issuer_such_tokens_are_unknown(runtime: Runtime, issuer: Issuer) -> None:
    with pytest.raises(CredentialsInvalid):
        authenticate(runtime, f"Bearer {issuer.token()}")

"""An identity provider: keys in a set, served over HTTP, and tokens that they sign."""

import base64
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
KEYS = {"RS256": RSA, "ES256": EC, "EdDSA": ED}


class Provider:
    """Serves its keys, or `body` in their place; counts how often it was asked. Without `answers` it keeps silent."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.body: bytes | None = None
        self.asked = 0
        self.status = 200
        self.location = ""
        self.heard, self.answers = Event(), Event()
        self.answers.set()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                provider.heard.set()
                provider.answers.wait(20)
                body = json.dumps({"keys": provider.keys}).encode() if provider.body is None else provider.body
                self.send_response(provider.status)
                if provider.location:
                    self.send_header("Location", provider.location)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys.json"

    def add(self, kid: str, alg: str, key: Any, **more: Any) -> None:
        """Publish a key."""
        jwk = get_default_algorithms()[alg].to_jwk(key.public_key(), as_dict=True)
        self.keys.append({**jwk, "kid": kid, "alg": alg, "use": "sig", **more})


def signed(kid: str, alg: str, key: Any, **instead: Any) -> str:
    """A buyer's token, signed by this key."""
    claims = {"sub": "user_1", "aud": "shop", "exp": int(time.time()) + 60, **instead}
    return jwt.encode(claims, key, alg, headers={"kid": kid})


def unsigned(alg: str) -> str:
    """A token without a signature."""
    return f"{b64({'alg': alg, 'typ': 'JWT'})}.{b64({'sub': 'user_1', 'exp': int(time.time()) + 60})}."


def b64(data: bytes | dict[str, Any]) -> str:
    """A part of a token."""
    raw = json.dumps(data).encode() if isinstance(data, dict) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

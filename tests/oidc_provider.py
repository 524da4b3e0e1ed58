"""A small OpenID Connect provider for tests: it signs in whoever comes, and lies as it is told."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import tokens

CLIENT, SECRET = "edge-pages", "the secret of the client"


class OidcServer:
    def __init__(self) -> None:
        self.reset()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.get(self)

            def do_POST(self) -> None:
                provider.exchange(self)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def reset(self) -> None:
        self.claims: dict[str, Any] = {"groups": ["admins"]}
        """Of the next ID token; None removes one."""
        self.described: dict[str, Any] = {}
        self.sign: Callable[[dict[str, Any]], str] | None = None
        """Makes an ID token of its claims."""
        self.answer: bytes | None = None
        """Of the token endpoint."""
        self.status = 200
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.key = tokens.RSA
        self._codes: dict[str, dict[str, str]] = {}

    def __enter__(self) -> OidcServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def get(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        match url.path:
            case "/.well-known/openid-configuration":
                self._send(request, json.dumps({**self._description(), **self.described}).encode())
            case "/jwks":
                self._send(request, tokens.key_set(self.key))
            case "/authorize":
                self.asked.append(("authorize", query))
                self._redirect(request, self.code(query))
            case "/logout":
                self.asked.append(("logout", query))
                self._redirect(request, query["post_logout_redirect_uri"])
            case _:
                self._send(request, b"", 404)

    def code(self, query: dict[str, str]) -> str:
        """Where the browser is sent to: back with a code for what it has asked for."""
        code = f"code-{len(self._codes)}"
        self._codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], 'iss': self.issuer})}"

    def exchange(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        self.asked.append(("token", {**form, "authorization": request.headers.get("authorization", "")}))
        asked = self._codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
        basic = base64.b64encode(f"{quote(CLIENT, safe='')}:{quote(SECRET, safe='')}".encode()).decode()
        is_client = f"Basic {basic}" == request.headers.get("authorization") or SECRET == form.get("client_secret")
        if asked is None or challenge.decode() != asked["code_challenge"] or not is_client:
            self._send(request, b'{"error": "invalid_grant"}', 400)
            return
        now = time.time()
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "ann-1",
            "email": "ann@example.com",
            "iat": now,
            "exp": now + 60,
            "nonce": asked["nonce"],
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        answer = self.answer
        if answer is None:
            made = self.sign(claims) if self.sign is not None else self.signed(claims)
            answer = json.dumps({"access_token": "a", "token_type": "Bearer", "id_token": made}).encode()
        self._send(request, answer, self.status)

    def signed(self, claims: dict[str, Any], key: Any = None) -> str:
        from joserfc import jwt

        key = key or self.key
        return jwt.encode({"alg": "RS256", "kid": key.kid}, claims, key, ["RS256"])

    def _description(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "end_session_endpoint": f"{self.issuer}/logout",
        }

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, body: bytes, status: int = 200) -> None:
        request.send_response(status)
        request.send_header("content-type", "application/json")
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    @staticmethod
    def _redirect(request: BaseHTTPRequestHandler, target: str) -> None:
        request.send_response(302)
        request.send_header("location", target)
        request.send_header("content-length", "0")
        request.end_headers()

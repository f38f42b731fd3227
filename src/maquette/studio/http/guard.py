"""What every request passes first: who may ask, from where, and how much; and the headers of every answer.

This module does not import torch.
"""

import json
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.exceptions import HTTPException

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "maquette_token"
ANY_HOST = "*"
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "x-robots-tag": "noindex",
}
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)  # of the page, whose library writes scripts into it
STRICT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"  # of everything else
DATA_PATHS = ("/api", "/controlnet", "/sdapi")


class Guard:
    """Middleware that turns requests away before their body is read.

    Args:
        token: that every request must show, as "Authorization: Bearer TOKEN" or, in a browser, once as ?token=TOKEN.
        hosts: names under which the server is known; another Host header is refused, so that no page of another
            origin reaches it by a name of its own. `ANY_HOST` takes all of them.
        most: bytes of a body.
    """

    def __init__(self, app: App, token: str | None, hosts: Iterable[str], most: int) -> None:
        self._app, self._token, self._hosts, self._most = app, token, set(hosts), most
        self._too_large = f"A request has {most:,} bytes at most; send smaller pictures."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refusal(scope, headers)
        if scope["type"] == "websocket":
            if refused:
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self._app(scope, receive, send)
            return
        sending = _with_headers(send, scope["path"])
        if refused:
            await _answer(sending, *refused)
        elif self._token and (location := self._entry(scope)):
            await _answer(sending, 303, "Welcome.", {"location": location, "set-cookie": self._cookie()})
        else:
            await self._app(scope, self._counted(receive), sending)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """The status and the sentence for a request that is turned away."""
        host = headers.get("host", "")
        if ANY_HOST not in self._hosts and _name(host) not in self._hosts:
            return 421, "This studio is not known by this name; open it by the address that it printed."
        reads = scope.get("method", "GET") in ("GET", "HEAD", "OPTIONS") and scope["type"] == "http"
        origin = headers.get("origin")
        if not reads and origin is not None and origin.partition("://")[2] != host:
            return 403, "Pages of other sites may not send requests to this studio."
        if self._token and not self._is_known(scope, headers):
            return 401, "This studio asks for its token: Authorization: Bearer TOKEN, or ?token=TOKEN in a browser."
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()) or len(length) > 15 or int(length) > self._most:
            return 413, self._too_large
        return None

    def _is_known(self, scope: Scope, headers: dict[str, str]) -> bool:
        kind, _, shown = headers.get("authorization", "").partition(" ")
        cookies = [one.strip().partition("=") for one in headers.get("cookie", "").split(";")]  # others may be any text
        candidates = [shown if kind.lower() == "bearer" else "", self._in_query(scope)]
        candidates += [value for name, _, value in cookies if name == COOKIE]
        return any(secrets.compare_digest(one.encode(), str(self._token).encode()) for one in candidates)

    def _in_query(self, scope: Scope) -> str:
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        return query.get("token", [""])[0] if scope.get("method") == "GET" else ""

    def _entry(self, scope: Scope) -> str | None:
        """Where a browser that showed the token in its address is sent: the same path, without it."""
        return f"/{quote(scope['path'].lstrip('/'))}" if self._in_query(scope) else None

    def _cookie(self) -> str:
        return f"{COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"

    def _counted(self, receive: Receive) -> Receive:
        """Counts the bytes of a body, whose length may not have been told."""
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                raise HTTPException(413, self._too_large)
            return message

        return counted


def _name(host: str) -> str:
    """The host of "host:port"."""
    return host.rsplit("]")[0].lstrip("[") if host.startswith("[") else host.rsplit(":", 1)[0]


def _with_headers(send: Send, path: str) -> Send:
    is_data = path.startswith(DATA_PATHS)
    more = {**HEADERS, "content-security-policy": STRICT_POLICY if is_data else POLICY}
    more |= {"cache-control": "no-store"} if is_data else {}

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = [(name, value) for name, value in message.get("headers", []) if name.decode().lower() not in more]
            message["headers"] = [*present, *((name.encode(), value.encode()) for name, value in more.items())]
        await send(message)

    return sending


async def _answer(send: Send, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
    body = json.dumps({"error": sentence}).encode()
    more = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in more.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})

"""What the page's server refuses before Gradio sees it, and who may change the run.

A page of another site can reach a server on this machine through the browser of whoever visits it, under a name that it
makes point here (DNS rebinding). So requests must name this machine, and pages of others may make none. Nothing is
uploaded, and no request is large. Whoever opens the printed address with its token may add documents.
"""

import hashlib
import hmac
import secrets
import urllib.parse
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse

HERE = ("127.0.0.1", "localhost", "::1")
MOST_BYTES = 1 << 20
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'"
)


class Token:
    """A secret that the address of the page carries once, and then a cookie of the browser or a header of a program."""

    def __init__(self):
        self.value = secrets.token_urlsafe(24)
        # Ports share their cookies, and two runs may be served at once.
        self._cookie = f"realm-{hashlib.sha256(self.value.encode()).hexdigest()[:12]}"

    def is_in(self, request: HTTPConnection) -> bool:
        """Whether a request has the token: a cookie, or the header `Authorization: Bearer TOKEN`."""
        given = request.cookies.get(self._cookie, ""), request.headers.get("authorization", "").removeprefix("Bearer ")
        return any(hmac.compare_digest(one.encode(), self.value.encode()) for one in given)

    def cookie_for(self, connection: HTTPConnection) -> str:
        """The cookie to set in answer to the address with the token; empty for any other."""
        given = connection.query_params.get("token", "")
        if not hmac.compare_digest(given.encode(), self.value.encode()):
            return ""
        return f"{self._cookie}={self.value}; Path=/; HttpOnly; SameSite=Strict"


class Guard:
    """ASGI middleware that refuses, sends POLICY with every response, and sets the token's cookie."""

    def __init__(self, app: Callable, token: Token):
        self._app, self._token = app, token

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """Answers a request, or passes it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        if found := _refusal(scope.get("method", ""), connection.url.path, connection.headers):
            status, why = found
            await PlainTextResponse(why, status)(scope, receive, send)
            return

        async def send_with_headers(message: dict) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                if cookie := self._token.cookie_for(connection):
                    headers.append("Set-Cookie", cookie)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _refusal(method: str, path: str, headers: Headers) -> tuple[int, str] | None:
    """Status and reason; None for a request that is passed on."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if _name(f"//{host}") not in HERE:
        return 403, f"This page answers to {' and '.join(HERE[:2])} alone: forward the port (docs/demo.md)."
    is_foreign = headers.get("sec-fetch-site") == "cross-site" and path != "/"  # where a link may lead
    if is_foreign or origin is not None and origin.partition("://")[2] != host:
        return 403, "Pages of other sites may make no calls here."
    if path.rstrip("/").endswith("/upload") or headers.get("content-type", "").lower().startswith("multipart/"):
        return 403, "Nothing is uploaded here: pass texts."
    length = headers.get("content-length", "0")
    if not length.isdecimal() or "transfer-encoding" in headers:  # which would count, were both given
        return 411, "Say how long the request is (Content-Length)."
    if int(length) > MOST_BYTES:
        return 413, f"At most {MOST_BYTES:,} bytes are taken at once: realm update takes larger documents."
    return None


def _name(address: str) -> str | None:
    try:
        return urllib.parse.urlsplit(address).hostname
    except ValueError:  # half an IPv6 address
        return None

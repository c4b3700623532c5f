"""What the server lets through: the requests of its own page, and no others."""

import json
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

API = "/gradio_api/"
FILE = f"{API}file="
GET = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/manifest\.json|/(assets|static)/.*"
    rf"|{API}(queue/data|startup-events|upload_progress|heartbeat/\w+|file=.*)"
)
POST = re.compile(rf"{API}(queue/join|upload|component_server|cancel|reset)/?")
CALL = 4 * 2**20  # bytes of a call; pictures come as files
HEADERS = {
    # Gradio's page needs inline scripts; nothing is loaded from elsewhere, or sent there.
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
        "frame-ancestors 'none'; base-uri 'self'; form-action 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Gate:
    """An ASGI middleware in front of Gradio, which can do much more than this page needs.

    Args:
        app: Application behind it.
        root: The one folder whose files may be fetched.
        most: Largest body of a request, bytes.
        hosts: Names under which the page may be asked for; None for any. A page of somebody else whose name leads to
            this machine (DNS rebinding) is none of them.
    """

    def __init__(self, app: App, root: Path, most: int, hosts: frozenset[str] | None = None) -> None:
        self.app, self.root, self.most, self.hosts = app, os.path.realpath(root), most, hosts

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        status, reason = self._refusal(scope)
        if not status and scope["path"].startswith(f"{API}queue/join"):
            body = await _body(receive)
            if body is None or fetches(body):
                status, reason = 403, "A call of this page names files that were uploaded, no addresses."
            else:
                receive = _again(body, receive)
        if status:
            await _answer(send, status, reason)
            return
        await self.app(scope, receive, _with_headers(send, immutable=scope["path"].startswith("/assets/")))

    def _refusal(self, scope: Message) -> tuple[int, str]:
        """Status and reason why a request is refused; 0 if it is not."""
        if scope["type"] != "http":
            return 403, "Only HTTP is served here."
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        host, origin, method, path = headers.get("host", ""), headers.get("origin"), scope["method"], scope["path"]
        if self.hosts is not None and urlsplit(f"//{host}").hostname not in self.hosts:
            return 403, "This page is served to this machine alone."
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "Another page may not use this one."
        if not (GET if method in ("GET", "HEAD") else POST).fullmatch(path) or method not in ("GET", "HEAD", "POST"):
            return 404, "There is no such page."
        if path.startswith(FILE) and not self._is_ours(path.removeprefix(FILE)):
            return 403, "This file is not served."
        if method == "POST":
            length = headers.get("content-length", "")
            if not length.isdigit():
                return 411, "The length of the request is missing."
            if int(length) > (CALL if "queue" in path else self.most):
                return 413, f"More than {self.most / 2**20:.0f} MiB are not taken."
        return 0, ""

    def _is_ours(self, path: str) -> bool:
        """Whether a path is a file in the one folder, links followed."""
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError):  # such as a zero byte
            return False
        return os.path.isabs(path) and real.startswith(self.root + os.sep) and os.path.isfile(real)


def fetches(body: bytes) -> bool:
    """Whether a call would make the server fetch something, or is no call.

    Args:
        body: Body of the call, JSON.
    """
    try:
        pending = [json.loads(body)]
    except ValueError:
        return True
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if "://" in str(value.get("path")):
                return True
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return False


async def _body(receive: Receive) -> bytes | None:
    """The body of a request; None if its sender went away, or it is longer than it said."""
    parts = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts += message.get("body", b"")
        if len(parts) > CALL:
            return None
        if not message.get("more_body"):
            return bytes(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """The same request for who comes next."""
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return pending.pop() if pending else await receive()

    return next_message


def _with_headers(send: Send, immutable: bool) -> Send:
    headers = [(key, value) for key, value in HEADERS.items() if not (immutable and key == "cache-control")]

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = {key.encode() for key, _ in headers}
            kept = [entry for entry in message["headers"] if entry[0].lower() not in ours]
            message["headers"] = kept + [(key.encode(), value.encode()) for key, value in headers]
        await send(message)

    return with_headers


async def _answer(send: Send, status: int, reason: str) -> None:
    body = reason.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

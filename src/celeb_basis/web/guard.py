"""Guard: stands before the page and lets through what its own visitors ask of it, and nothing else."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import ExitStack
from http.cookies import CookieError, SimpleCookie
from tempfile import TemporaryFile
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

from ..limits import MAX_DRAINED_BYTES, MAX_JOBS, MAX_PASSWORD_TRIES, MAX_REQUEST_BYTES, MAX_UPLOAD_BYTES
from .requests import ADDRESS, CHUNK, SESSION, Wrong, check_call, check_upload, read
from .visitors import Visitors

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

API = "/gradio_api"
# What a visitor sees before the password is given.
PUBLIC = re.compile(r"/(login/?|assets/.*|static/.*|svelte/.*|theme\.css|favicon\.ico|manifest\.json|robots\.txt)?")
GET = re.compile(
    rf"/(config/?|logout|pwa_icon.*)|{API}/(info|app_id|user|login_check|startup-events|theme\.css|queue/data"
    r"|upload_progress|heartbeat/[^/]+|file=.*)/?"
)
POST = re.compile(rf"/login/?|{API}/(queue/join|run/predict|cancel|reset|upload)/?")
VISITOR = "celeb_basis_visitor"
SLOWEST = 5.0  # seconds that an attempt takes after many wrong ones


class Guard:
    """An ASGI application around the page's own.

    hosts: names under which the page may be opened, beside addresses and this machine's own names: a name of
    somebody else's that points here is refused.
    functions: of the page, by number. logged_in: whether a token of a cookie is known; None without a password.
    has_room: whether uploads still fit on the disk. waiting: the sessions whose jobs are in the queue.
    """

    def __init__(
        self,
        app: App,
        visitors: Visitors,
        functions: dict[int, Any],
        *,
        hosts: Iterable[str] = (),
        logged_in: Callable[[str], bool] | None = None,
        has_room: Callable[[], bool] = lambda: True,
        waiting: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._app, self._visitors, self._functions = app, visitors, functions
        own = socket.gethostname().lower()
        self._hosts = {"localhost", own, f"{own}.local", *(host.lower() for host in hosts)}
        self._logged_in, self._has_room, self._waiting_sessions = logged_in, has_room, waiting
        self._door = asyncio.Lock()
        self._wrong, self._waiting = 0, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            await self._answer(scope, receive, send)
        except Wrong as error:
            status, line = error.args if len(error.args) == 2 else (422, error.args[0])
            await _refuse(send, status, line)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        method, path = scope["method"], scope["path"]
        self._check_origin(method, path, headers)
        if not (PUBLIC.fullmatch(path) or (POST if method == "POST" else GET).fullmatch(path)):
            raise Wrong(404, "there is no such place on this page")
        if method not in ("GET", "HEAD", "POST"):
            raise Wrong(405, "the page answers GET and POST")
        cookies = _cookies(headers.get("cookie", ""))
        tokens = [value for name, value in cookies.items() if name.startswith("access-token-")]
        known = self._logged_in is None or any(map(self._logged_in, tokens))
        if not known and not PUBLIC.fullmatch(path) and path.rstrip("/") not in ("/config", f"{API}/login_check"):
            raise Wrong(401, "log in first")
        if method == "POST" and path.startswith("/login"):
            await self._at_the_door(scope, receive, send)
            return
        visitor = cookies.get(VISITOR) or (tokens[0] if tokens else "")
        send = _own_cookies(send, None if cookies.get(VISITOR) else secrets.token_urlsafe(24))
        if path.startswith(f"{API}/upload") and method == "POST":
            await self._uploaded(scope, receive, send, headers)
        elif method == "POST":
            await self._called(scope, receive, send, path.rstrip("/"), visitor)
        else:
            await self._fetched(scope, receive, send, path, visitor)

    def _check_origin(self, method: str, path: str, headers: dict[str, str]) -> None:
        """Raise Wrong for a name that is not ours, and for what another site asks in its visitors' name."""
        host = headers.get("host", "")
        name = urlsplit(f"//{host}").hostname or ""
        if name not in self._hosts and not _is_address(name):
            raise Wrong(421, "this page has another name: open it by its address, or start it with that --domain")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise Wrong(403, "another site may not use this page")
        arrives = method == "GET" and path == "/" and headers.get("sec-fetch-mode") == "navigate"
        if site not in ("same-origin", "none") and not arrives:
            raise Wrong(403, "another site may not use this page")

    async def _at_the_door(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Try one password at a time, each wrong one slower than the last."""
        if self._waiting >= MAX_PASSWORD_TRIES:
            raise Wrong(429, "too many people are at the door: try again in a minute")
        self._waiting += 1
        try:
            async with self._door:
                await asyncio.sleep(min(SLOWEST, 0.1 * 2.0**self._wrong if self._wrong else 0.0))

                async def watched(message: MutableMapping[str, Any]) -> None:
                    if message["type"] == "http.response.start":
                        self._wrong = min(self._wrong + 1, 16) if message["status"] >= 400 else 0
                    await send(message)

                body = await _whole(receive, 2**14)
                await self._app(scope, _again(body, receive), _own_cookies(watched, None))
        finally:
            self._waiting -= 1

    async def _called(self, scope: Scope, receive: Receive, send: Send, path: str, visitor: str) -> None:
        """A function of the page, or the end of one."""
        body = await _whole(receive, MAX_REQUEST_BYTES)
        if path.endswith("reset"):  # does nothing; the browser calls it beside cancel
            await _say(send, 200, {"success": True})
            return
        content = read(body)
        session = content["session_hash"]
        if not self._visitors.claim(session, visitor):
            raise Wrong(403, "this session is another visitor's")
        if path.endswith(("join", "predict")):
            check_call(content, self._functions, queued=path.endswith("join"))
            if path.endswith("join") and self._visitors.others(session, self._waiting_sessions()) >= MAX_JOBS:
                raise Wrong(429, f"{MAX_JOBS} of your jobs are waiting already: let one of them end first")
        else:
            if type(content.get("fn_index")) is not int or not isinstance(content.get("event_id"), str | None):
                raise Wrong("the request must name fn_index and event_id")
            self._visitors.cancel(session)
        await self._app(scope, _again(body, receive), send)

    async def _uploaded(self, scope: Scope, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        """Files, which are looked at as a whole before the page stores any of them."""
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > MAX_UPLOAD_BYTES:
            await _whole(receive, 0)
        if not self._has_room():
            raise Wrong(507, "the page's disk is full: try again later")
        with TemporaryFile() as body:  # has no name, so that nothing of it stays
            await _spooled(receive, body, MAX_UPLOAD_BYTES)
            body.seek(0)
            check_upload(headers.get("content-type", ""), body)
            body.seek(0)
            await self._app(scope, _from_file(body, receive), send)

    async def _fetched(self, scope: Scope, receive: Receive, send: Send, path: str, visitor: str) -> None:
        """A file, or a stream to which a visitor listens as long as the connection lasts."""
        place = unquote(path.partition("file=")[2])
        if ADDRESS.match(place) or "\0" in place:
            raise Wrong(403, "only this page's own files are served")
        session = path.rpartition("/")[2] if "/heartbeat/" in path else ""
        if path.endswith(("/queue/data", "/queue/data/")):
            session = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", ["-/-"])[0]
        with ExitStack() as present:
            if session:
                if not SESSION.fullmatch(session):
                    raise Wrong("the request needs a session_hash of letters and digits")
                if not self._visitors.claim(session, visitor):
                    raise Wrong(403, "this session is another visitor's")
                present.enter_context(self._visitors.listening(session))
            await self._app(scope, receive, send)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _cookies(header: str) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}


def _own_cookies(send: Send, visitor: str | None) -> Send:
    """Send cookies for this site alone, one for a new visitor among them, and leave to no other site what is read."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = []
            for name, value in message.get("headers", []):
                if name.lower().startswith(b"access-control-"):
                    continue
                if name.lower() == b"set-cookie":
                    value = re.sub(rb";\s*(samesite=\w+|httponly)", b"", value, flags=re.I)
                    value += b"; HttpOnly; SameSite=Strict"
                headers.append((name, value))
            if visitor is not None:
                cookie = f"{VISITOR}={visitor}; Path=/; HttpOnly; SameSite=Strict"
                headers.append((b"set-cookie", cookie.encode()))
            headers += [(b"cross-origin-resource-policy", b"same-origin"), (b"x-content-type-options", b"nosniff")]
            headers += [(b"x-frame-options", b"DENY"), (b"referrer-policy", b"same-origin")]
            message["headers"] = headers
        await send(message)

    return sending


async def _whole(receive: Receive, most: int) -> bytes:
    """The body of a request. Raises Wrong where it is longer than `most` bytes."""
    body, count = b"", 0
    while True:
        message = await receive()
        part = bytes(message.get("body", b""))
        count += len(part)
        body = body + part if count <= most else b""  # what is too long is read, so that its sender hears the answer
        ended = message["type"] == "http.disconnect" or not message.get("more_body")
        if ended and count <= most:
            return body
        if ended or count > MAX_DRAINED_BYTES:
            raise Wrong(413, f"a request may have {most // 1024} kB")


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, to be received once more; then what comes after it."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> MutableMapping[str, Any]:
        return left.pop() if left else await receive()

    return receiving


async def _spooled(receive: Receive, body: BinaryIO, most: int) -> None:
    """Write the body of a request to a file. Raises Wrong where it is longer than `most` bytes, or cut off."""
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Wrong("the upload was cut off")
            body.write(message.get("body", b""))
            if body.tell() > most:
                await _whole(receive, 0)
                raise Wrong(413, f"a request may have {most // 2**20} MB")
            if not message.get("more_body"):
                return
    except OSError:
        raise Wrong(507, "the page's disk is full: try again later") from None


def _from_file(body: BinaryIO, receive: Receive) -> Receive:
    """A body in a file, to be received; then what comes after it."""
    ended = False

    async def receiving() -> MutableMapping[str, Any]:
        nonlocal ended
        if ended:
            return await receive()
        chunk = body.read(CHUNK)
        ended = not chunk
        return {"type": "http.request", "body": chunk, "more_body": not ended}

    return receiving


async def _refuse(send: Send, status: int, line: str) -> None:
    """Answer with one line."""
    await _say(send, status, {"detail": line, "error": line})


async def _say(send: Send, status: int, answer: object) -> None:
    content = json.dumps(answer).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})

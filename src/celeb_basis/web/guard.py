"""Guard: let through what the page's own visitors ask of it, and nothing else."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import Any, BinaryIO
from urllib.parse import parse_qs

from ..limits import (
    MAX_DRAINED_BYTES,
    MAX_JOBS,
    MAX_LOGIN_BYTES,
    MAX_PASSWORD_TRIES,
    MAX_REQUEST_BYTES,
    MAX_UPLOAD_BYTES,
    MAX_UPLOAD_MB,
)
from .requests import CHUNK, SESSION, Wrong, check_call, check_upload, read
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
HOST = re.compile(r"([a-z0-9._-]{1,255}|\[[0-9a-f:.]{2,45}\])(?::([0-9]{1,5}))?")
VISITOR = "celeb_basis_visitor"
COOKIE = re.compile(rf"{VISITOR}|access-token-[A-Za-z0-9_-]{{1,100}}")
TOO_LARGE = f"an upload may have {MAX_UPLOAD_MB} MB"
NOBODY = "'none'"  # in a policy
SLOWEST = 5.0  # seconds that an attempt takes after many wrong ones


class Guard:
    """An ASGI application around the page's own.

    functions: of the page, by number.
    host: the name or address that the page listens on. domains: names of proxies before it. The page may also be opened
        by any address and by this machine's own names; other names that point here are refused.
    framed_by: sites that may show the page in a frame.
    logged_in: whether a token of a cookie is known; None without a password.
    is_ours: whether a path names a file that visitors uploaded, or that the page made for them.
    has_room: whether uploads still fit on the disk. waiting: the sessions whose jobs are in the queue.
    """

    def __init__(
        self,
        app: App,
        visitors: Visitors,
        functions: dict[int, Any],
        *,
        host: str,
        domains: Iterable[str] = (),
        framed_by: Iterable[str] = (),
        logged_in: Callable[[str], bool] | None = None,
        is_ours: Callable[[str], bool],
        has_room: Callable[[], bool] = lambda: True,
        waiting: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._app, self._visitors, self._functions = app, visitors, functions
        own = socket.gethostname().lower()
        self._domains = {domain.lower() for domain in domains}
        self._hosts = {"localhost", own, f"{own}.local", host.lower(), *self._domains}
        self._frames = f"frame-ancestors {' '.join(framed_by) or NOBODY}".encode()
        self._logged_in, self._is_ours = logged_in, is_ours
        self._has_room, self._waiting_sessions = has_room, waiting
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
        cookies = _cookies(headers.get("cookie", ""))
        scope["headers"] = self._true_headers(scope["headers"], headers, cookies)
        if not (PUBLIC.fullmatch(path) or (POST if method == "POST" else GET).fullmatch(path)):
            raise Wrong(404, "there is no such place on this page")
        if method not in ("GET", "HEAD", "POST"):
            raise Wrong(405, "the page answers GET and POST")
        tokens = [value for name, value in cookies.items() if name.startswith("access-token-")]
        known = self._logged_in is None or any(map(self._logged_in, tokens))
        if not known and not PUBLIC.fullmatch(path) and path.rstrip("/") not in ("/config", f"{API}/login_check"):
            raise Wrong(401, "log in first")
        if method == "POST" and path.startswith("/login"):
            await self._at_the_door(scope, receive, send)
            return
        visitor = cookies.get(VISITOR) or (tokens[0] if tokens else "")
        send = self._own_answers(send, None if cookies.get(VISITOR) else secrets.token_urlsafe(24))
        if path.startswith(f"{API}/upload") and method == "POST":
            await self._uploaded(scope, receive, send, headers)
        elif method == "POST":
            await self._called(scope, receive, send, path.rstrip("/"), visitor)
        else:
            await self._fetched(scope, receive, send, path, visitor)

    def _check_origin(self, method: str, path: str, headers: dict[str, str]) -> None:
        """Raise Wrong for a name that is not ours, and for what another site asks in its visitors' name."""
        host = _split(headers.get("host", ""))
        if not self._is_known(host[0]):
            raise Wrong(421, "this page has another name: open it by its address, or start it with that --domain")
        site = headers.get("sec-fetch-site", "none")
        arrives = method == "GET" and path == "/" and headers.get("sec-fetch-mode") == "navigate"
        own = "origin" not in headers or self._is_own(headers["origin"], host)
        if not own or (site not in ("same-origin", "none") and not arrives):
            raise Wrong(403, "another site may not use this page")

    def _is_own(self, origin: str, host: tuple[str, int | None]) -> bool:
        """Return whether a page that calls came from here: by the same name and port, or through a proxy of ours.

        Proxies have ports of their own, and many send the name of the page behind them as the host.
        """
        scheme, _, place = origin.lower().partition("://")
        name, port = _split(place)
        if name in self._domains:
            return True
        default = {"http": 80, "https": 443}.get(scheme)
        return bool(name) and (name, port or default) == (host[0], host[1] or default)

    def _is_known(self, name: str) -> bool:
        """Return whether the page may be opened under a name: one of its own, or an address."""
        return name in self._hosts or _is_address(name.strip("[]"))

    def _true_headers(
        self, given: list[tuple[bytes, bytes]], headers: dict[str, str], cookies: dict[str, str]
    ) -> list[tuple[bytes, bytes]]:
        """Return headers with the page's own cookies alone, and with its own address, which its answers repeat.

        Where the browser says by which name of ours it called a proxy, that counts.
        """
        scheme, _, rest = headers.get("origin", headers.get("referer", "")).lower().partition("://")
        place = rest.partition("/")[0]
        if _split(place)[0] in self._domains:
            own = {b"x-forwarded-host": place, b"x-forwarded-proto": "https" if scheme == "https" else "http"}
        else:
            forwarded = headers.get("x-forwarded-host", "").partition(",")[0].strip()
            own = {b"x-forwarded-host": forwarded} if self._is_known(_split(forwarded)[0]) else {}
        if cookies:
            own[b"cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        replaced = {b"cookie", b"x-gradio-server", b"x-forwarded-host", *own}
        kept = [(name, value) for name, value in given if name.lower() not in replaced]
        return [*kept, *((name, value.encode("latin-1")) for name, value in own.items())]

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

                body = await _read(receive, MAX_LOGIN_BYTES)
                await self._app(scope, _again(body, receive), self._own_answers(watched, None))
        finally:
            self._waiting -= 1

    async def _called(self, scope: Scope, receive: Receive, send: Send, path: str, visitor: str) -> None:
        """Call a function of the page, or end one."""
        body = await _read(receive, MAX_REQUEST_BYTES)
        if path.endswith("reset"):  # does nothing; the browser calls it beside cancel
            await _say(send, 200, {"success": True})
            return
        content = read(body)
        session = content["session_hash"]
        if not self._visitors.claim(session, visitor):
            raise Wrong(403, "this session is another visitor's")
        if path.endswith(("join", "predict")):
            checked = check_call(content, self._functions, self._is_ours, queued=path.endswith("join"))
            body = json.dumps(checked).encode()  # what nobody checked is left out
            if path.endswith("join") and self._visitors.others(session, self._waiting_sessions()) >= MAX_JOBS:
                raise Wrong(429, f"{MAX_JOBS} of your jobs are waiting already: let one of them end first")
        else:
            if type(content.get("fn_index")) is not int or not isinstance(content.get("event_id"), str | None):
                raise Wrong("the request must name fn_index and event_id")
            self._visitors.cancel(session)
        await self._app(scope, _again(body, receive), send)

    async def _uploaded(self, scope: Scope, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        """Check files as a whole before the page stores any of them."""
        declared = headers.get("content-length", "0")
        if len(declared) > 15 or not declared.isdecimal() or int(declared) > MAX_UPLOAD_BYTES:
            await _drain(receive)
            raise Wrong(413, TOO_LARGE)
        if not self._has_room():
            raise Wrong(507, "the page's disk is full: try again later")
        with TemporaryFile() as body:  # has no name, so that nothing of it stays
            await _store(receive, body)
            body.seek(0)
            check_upload(headers.get("content-type", ""), body)
            body.seek(0)
            await self._app(scope, _from_file(body, receive), send)

    async def _fetched(self, scope: Scope, receive: Receive, send: Send, path: str, visitor: str) -> None:
        """Answer with a file, or with a stream to which a visitor listens as long as the connection lasts."""
        _, is_file, place = path.partition("file=")
        if is_file and not self._is_ours(place):
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

    def _own_answers(self, send: Send, visitor: str | None) -> Send:
        """Return a `send` that keeps cookies and answers to this site; a new visitor gets a cookie of this value."""

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
                headers += [(b"content-security-policy", self._frames), (b"referrer-policy", b"same-origin")]
                message["headers"] = headers
            await send(message)

        return sending


def _split(netloc: str) -> tuple[str, int | None]:
    """Return the name and the port of a host, in lower case; an empty name for what is none."""
    found = HOST.fullmatch(netloc.lower())
    port = int(found[2]) if found and found[2] else None
    return ("", None) if found is None or (port or 0) > 65535 else (found[1], port)


def _is_address(name: str) -> bool:
    """Return whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _cookies(header: str) -> dict[str, str]:
    """Return the page's own cookies, by name; others, which may take Python's own parser minutes, are left out."""
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return {name: value for name, _, value in pairs if COOKIE.fullmatch(name) and SESSION.fullmatch(value)}


async def _read(receive: Receive, most: int) -> bytes:
    """Return the body of a request. Raises Wrong where it is longer than `most` bytes."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        more = message["type"] != "http.disconnect" and message.get("more_body", False)
        if len(body) > most:
            if more:
                await _drain(receive)
            raise Wrong(413, f"a request may have {most // 1024} kB")
        if not more:
            return bytes(body)


async def _drain(receive: Receive) -> None:
    """Receive the rest of a request that is refused, so that its sender hears the answer."""
    count = 0
    while count < MAX_DRAINED_BYTES:
        message = await receive()
        count += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read once more, and then what comes after it."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> MutableMapping[str, Any]:
        return left.pop() if left else await receive()

    return receiving


async def _store(receive: Receive, body: BinaryIO) -> None:
    """Write the body of an upload to a file. Raises Wrong where it is too long, or cut off."""
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Wrong("the upload was cut off")
            body.write(message.get("body", b""))
            if body.tell() > MAX_UPLOAD_BYTES:
                if message.get("more_body"):
                    await _drain(receive)
                raise Wrong(413, TOO_LARGE)
            if not message.get("more_body"):
                return
    except OSError:
        raise Wrong(507, "the page's disk is full: try again later") from None


def _from_file(body: BinaryIO, receive: Receive) -> Receive:
    """Return a `receive` that gives a body in a file, and then what comes after it."""
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
    """Answer with JSON."""
    content = json.dumps(answer).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})

"""The page, called by JSON that no browser writes: each call is refused in one line, or gives what it should."""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from files import Tally, artefacts, pictures
from mutate import ANY, FLOATS, NASTY, NUMBERS

from celeb_basis.limits import MAX_MESSAGE_LENGTH

API = "gradio_api/"
PRIVATE = 0.2  # of the calls, those to functions that only the page itself uses
TEXTS = [
    "ada", "<ada>", "<bo>", "Zoë", "a photo of <ada>", "a photo", "../x", "miniature", "/etc/passwd", "<b>",
    "x" * 20_001,
]  # fmt: skip
SMALL = [0, 1, 2, 3, 0.5, -0.0]  # as many steps or pictures are drawn in no time
PATHS = ["/dev/zero", "/etc/passwd", "", "\0", "x" * 5000, ".", "http://127.0.0.1:9/x", "\ud800"]
PLACES = ["queue/join", "queue/join", "queue/join", "run/predict", "cancel", "reset", "upload"]


class Refused(Exception):
    """An answer of one line that says no."""


class Page:
    """A page that is served in this process, and what is known of its functions."""

    def __init__(self, address: str, said: io.StringIO, folder: Path) -> None:
        self._said, self._client = said, httpx.Client(base_url=address, timeout=60)
        config = self._client.get("config").json()
        components = {each["id"]: each["type"] for each in config["components"]}
        self.functions = {each["id"]: [components[i] for i in each["inputs"]] for each in config["dependencies"]}
        self.public = [each["id"] for each in config["dependencies"] if isinstance(each["api_name"], str)]
        found = [*artefacts(folder).values(), *pictures(folder).values()]
        self.files = [self._upload(file) for file, _ in found]

    def _upload(self, file: Path) -> str:
        with file.open("rb") as content:
            [path] = self._client.post(f"{API}upload", files={"files": content}).json()
        return str(path)

    def post(self, place: str, content: bytes, session: str) -> None:
        """Send a request, and wait for what a call gives. Raises Refused; AssertionError for any other answer."""
        answer = self._client.post(f"{API}{place}", content=content, headers={"content-type": "application/json"})
        try:
            if answer.status_code >= 400:
                assert answer.status_code < 500, f"status {answer.status_code}"
                raise Refused(answer.json()["detail"])
            if place == "queue/join":
                self._wait(session)
        finally:
            said = self._said.getvalue()
            self._said.seek(0)
            self._said.truncate()
            assert "Traceback" not in said, said.splitlines()[-1]

    def _wait(self, session: str) -> None:
        with self._client.stream("GET", f"{API}queue/data?session_hash={session}") as events:
            if events.status_code >= 400:
                raise Refused(json.loads(events.read())["detail"])
            for line in events.iter_lines():
                said = json.loads(line[5:]) if line.startswith("data:") else {}
                if said.get("msg") == "process_completed":
                    if error := said["output"].get("error"):
                        assert len(error) < 5 * MAX_MESSAGE_LENGTH, "a long message"
                        raise Refused(error)
                    assert said["success"], said
                    return

    def close(self) -> None:
        """Leave the page."""
        self._client.close()


@contextmanager
def served(folder: Path) -> Iterator[Page]:
    """Serve a page while the block runs."""
    from celeb_basis.web import Studio, serve

    said = io.StringIO()
    with contextlib.redirect_stderr(said), serve(Studio(folder / "out", keep=False)) as address:
        page = Page(address, said, folder)
        try:
            yield page
        finally:
            page.close()


def value(kind: str, page: Page, chance: random.Random) -> Any:
    """Return a value for an input of the page, in most cases of its kind."""
    if chance.random() < 0.15:
        return chance.choice([*NASTY, *NUMBERS, *FLOATS, [], [[]], {"a": {}}, False])
    if kind in ("number", "slider"):
        return chance.choice([*SMALL, None])
    if kind in ("image", "file", "uploadbutton"):
        path = chance.choice([*page.files, *page.files, *PATHS])
        found = {"path": path, "meta": {"_type": "gradio.FileData"}}
        if chance.random() < 0.2:
            found[chance.choice(["url", "orig_name", "meta", "size", "other"])] = chance.choice(
                [*NASTY, *NUMBERS, PATHS]
            )
        return chance.choice([found, found, [found], None])
    if kind == "checkbox":
        return chance.choice([True, False])
    return None if kind == "state" else chance.choice([*TEXTS, *NASTY])


def request(page: Page, session: str, chance: random.Random) -> bytes:
    """Return the body of a call."""
    number = chance.choice(page.public if chance.random() > PRIVATE else list(page.functions))
    kinds = page.functions[number]
    body: dict[str, Any] = {
        "fn_index": number, "session_hash": session, "data": [value(kind, page, chance) for kind in kinds],
    }  # fmt: skip
    if chance.random() < 0.2:
        key = chance.choice([*body, "event_data", "trigger_id", "event_id", "batched", "request"])
        body[key] = chance.choice([*NASTY, *NUMBERS, *FLOATS, PATHS])
    data = json.dumps(body).encode()
    return chance.choice(ANY)(data, chance) if chance.random() < 0.1 else data


def attack(times: int, seed: str, folder: Path) -> Tally:
    """Call the page so often."""
    chance, tally = random.Random(f"calls {seed}"), Tally()
    with served(folder) as page:
        for i in range(times):
            session = f"s{i // 20}"
            body = request(page, session, chance)
            with tally.attempt(str(body[:80]), Refused):
                page.post(chance.choice(PLACES), body, session)
    return tally

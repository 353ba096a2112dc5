"""Commands that are stopped, that find the disk full, or that write to one place at once: no file is torn.

The commands run in forks of this process, which has imported everything, so that a kill costs only what the command
itself does. `stops.py` stops whole processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial, partialmethod
from pathlib import Path

import httpx
from files import Tally
from PIL import Image
from stops import improper

from celeb_basis import CelebBasis, Identity
from celeb_basis.cli import main
from celeb_basis.evaluation.protocols import Protocol
from celeb_basis.io import remove_abandoned
from celeb_basis.miniature import demo

LIMIT = 300  # seconds that a command may take on a busy machine
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
IN_A_ROW = 4  # kills in one folder, before the command runs there undisturbed
WRITING = 0.5  # of the kills, the share that comes just after the command's folder has changed
JUST_AFTER = 0.003  # seconds
STARTED = 0.75  # of the pages, the share that is stopped after it serves
VISIT = 2.0  # seconds in which it is

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Forked:
    """A command in a fork of this process; `answers` keeps what it writes to stdout."""

    def __init__(self, argv: Sequence[str], *, max_bytes: int | None = None, answers: bool = False) -> None:
        self._said, err = os.pipe()
        self._answered, out = os.pipe() if answers else (None, os.open(os.devnull, os.O_WRONLY))
        # Held back until the fork has the handlers with which a process starts; with those of this one it would fail.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        self.process = os.fork()
        if not self.process:
            _run(argv, out, err, max_bytes)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        os.close(err)
        os.close(out)
        os.set_blocking(self._said, False)

    def first_line(self) -> str:
        """The first line of the answer; empty where the command ended before."""
        assert self._answered is not None
        with open(self._answered) as lines:
            return lines.readline()

    def over(self) -> bool:
        """Whether the command has ended."""
        return os.waitid(os.P_PID, self.process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Wait for the end, after a signal if there is one: exit code, negative for a signal, and what stderr got.

        The code is -99 for a command that goes on for ever.
        """
        if number is not None:
            os.kill(self.process, number)
        until = time.monotonic() + LIMIT
        while not self.over() and time.monotonic() < until:
            time.sleep(0.002)
        endless = not self.over()
        if endless:
            os.kill(self.process, signal.SIGKILL)
        _, status = os.waitpid(self.process, 0)
        with open(self._said, "rb") as said:
            return -99 if endless else os.waitstatus_to_exitcode(status), (said.read() or b"").decode()


def _run(argv: Sequence[str], out: int, err: int, max_bytes: int | None) -> None:
    """Be the command, and end."""
    code = 99  # a traceback
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        # The parent's may be files, in which they would look for their places.
        sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))
        for number in STOPPING:  # until the command hears them
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        remove_abandoned.cache_clear()  # a new process has looked nowhere yet
        _hasten()
        if max_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
        code = main(argv)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 98
    finally:
        os._exit(code)


def _hasten() -> None:
    """Let the demo, which has no options for it, do less: one scene, two steps, one celebrity, one prompt to measure.

    It goes the same way as ever, from the photograph to the sheet.
    """
    demo.SCENES = dict(list(demo.SCENES.items())[:1])
    demo.CELEBRITIES = 1
    demo.Model.fit = partialmethod(demo.Model.fit, max_train_steps=2, num_train_images=8)
    demo.Model.generate = partialmethod(demo.Model.generate, num_inference_steps=1)
    demo.Model.evaluate = partialmethod(demo.Model.evaluate, protocol=Protocol({"scene": ("a photo of {}",)}))


def commands(folder: Path) -> dict[str, list[str]]:
    """Every command that writes, in its shortest form; inputs are written into the folder."""
    sound = folder / "sound"
    sound.mkdir()
    for name, seed in (("ann", 1), ("ben", 2)):
        assert main(["sample", "--name", name, "--seed", str(seed), "-o", str(sound / f"{name}.safetensors")]) == 0
    ann, ben, photo = sound / "ann.safetensors", sound / "ben.safetensors", sound / "photo.jpg"
    assert main(["miniature", "person", "--seed", "7", "-o", str(photo)]) == 0
    prompts = sound / "prompts.txt"
    prompts.write_text("a photo of {}\n")
    return {
        "sample": ["sample", "--name", "eve", "-o", "out.safetensors"],
        "blend": ["blend", str(ann), str(ben), "--name", "eve", "-o", "out.safetensors"],
        "basis": ["basis", "--n-components", "8", "-o", "basis.safetensors", "--spectrum", "plot.png"],
        "miniature person": ["miniature", "person", "-o", "person.jpg"],
        "generate": ["generate", "a photo of <ann>", "--identity", str(ann), "-n", "5", "--steps", "1", "-o", "drawn"],
        "fit": ["fit", str(photo), "--name", "eve", "--steps", "2", "--num-train-images", "8", "-o", "out.safetensors"],
        "demo": ["demo", "-o", "demo"],
        "evaluate": [
            "evaluate", "--identity", str(ann), "--photo", str(photo), "--prompts", str(prompts), "--seeds", "3",
            "--celebrities", "1", "--steps", "1", "-o", "evaluation",
        ],
    }  # fmt: skip


def lasting() -> list[Path]:
    """The files in this folder that are not temporary."""
    files = (file for file in Path(".").rglob("*") if file.is_file())
    return [file for file in files if not any(part.startswith(".celeb-basis-") for part in file.parts)]


def torn() -> list[str]:
    """Files in this folder that are neither whole nor temporary."""
    wrong = []
    for file in lasting():
        try:
            if file.suffix == ".safetensors":
                (CelebBasis if file.name.startswith("basis") else Identity).load(file)
            elif file.suffix == ".json":
                json.loads(file.read_text())
            else:
                with Image.open(file) as image:
                    image.load()
        except Exception as error:
            wrong.append(f"{file.name}: {error}")
    return wrong


def left_over(process: int | None = None) -> list[str]:
    """Temporary files and folders in this folder, or those of one process."""
    return [str(file) for file in Path(".").rglob(f".celeb-basis-*-{process or '*'}-*")]


def written() -> dict[str, str]:
    """The files in this folder, and the hash of each; a report holds seconds, which differ."""
    return {
        str(file): "" if file.suffix == ".json" else hashlib.sha256(file.read_bytes()).hexdigest() for file in lasting()
    }


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder, which is made if there is none."""
    folder.mkdir(exist_ok=True)
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def attempt(tally: Tally, place: Path, deed: Callable[[], list[str]]) -> None:
    """One case, in a folder in which the command runs."""
    begun = time.monotonic()
    tally.tried += 1
    with inside(place):
        try:
            tally.failures += [*deed(), *torn()][:1]
        except (ChildProcessError, httpx.HTTPError) as error:
            tally.failures.append(f"{type(error).__name__}: {error}")
    tally.slowest = max(tally.slowest, time.monotonic() - begun)


@dataclass(frozen=True)
class Whole:
    """A command that nobody stops: how long it takes, how often its folder changes, which files it writes."""

    seconds: float
    changes: int
    files: dict[str, str]


@cache
def whole(argv: tuple[str, ...]) -> Whole:
    """Run a command in an empty folder. Raises ChildProcessError where it fails."""
    with tempfile.TemporaryDirectory() as folder, inside(Path(folder)):
        begun = time.monotonic()
        command = Forked(argv)
        changes = _wait_for_changes(command, 10**6)
        code, said = command.end()
        if code:
            raise ChildProcessError(f"{argv[0]} fails by itself: exit code {code}, {said[-300:]}")
        return Whole(time.monotonic() - begun, max(1, changes), written())


def _wait_for_changes(command: Forked, times: int) -> int:
    """Wait until files came or went so often in this folder, or the command is over; returns how often they did."""
    before, seen = set(Path(".").rglob("*")), 0
    while seen < times and not command.over():
        now = set(Path(".").rglob("*"))
        seen += now != before
        before = now
        time.sleep(0.0002)
    return seen


def kill(argv: list[str], times: int, seed: str, folder: Path) -> Tally:
    """Stop a command somewhere between its beginning and its end, some times in one folder.

    Then it runs there undisturbed, and has to leave the files that it writes where nobody stopped it.
    """
    chance, tally, usual = random.Random(f"{argv} {seed}"), Tally(), whole(tuple(argv))

    def deed(*, last: bool) -> list[str]:
        command, number = Forked(argv), chance.choice(SIGNALS)
        if chance.random() < WRITING:
            _wait_for_changes(command, chance.randint(1, usual.changes))
            time.sleep(chance.uniform(0, JUST_AFTER))
        else:
            time.sleep(usual.seconds * chance.random())
        code, said = command.end(number)
        tally.refused += code != 0
        wrong = improper(number, code, said)
        if number != signal.SIGKILL and left_over(command.process):
            wrong.append(f"a temporary file stays after {number.name}")
        if last and not wrong:
            wrong = _undisturbed(argv, usual)
        return wrong

    for i in range(times):
        last = i % IN_A_ROW == IN_A_ROW - 1 or i == times - 1
        attempt(tally, folder / f"killed-{i // IN_A_ROW}", partial(deed, last=last))
    return tally


def _undisturbed(argv: list[str], usual: Whole) -> list[str]:
    """What is wrong with a command, and its folder after it, where others were killed before."""
    code, said = Forked(argv).end()
    if code:
        return [f"the next run ends with exit code {code}: {said[-300:]}"]
    if left_over():
        return ["a temporary file stays after the next run"]
    return [] if written() == usual.files else ["the next run leaves other files than a first one"]


def pages(times: int, seed: str, folder: Path) -> Tally:
    """Stop the page before it serves, or while a visitor uploads, makes somebody up and draws; then open it again."""
    chance, tally = random.Random(f"pages {seed}"), Tally()

    def deed(*, last: bool) -> list[str]:
        Path("tmp").mkdir(exist_ok=True)
        tempfile.tempdir = str(Path("tmp").absolute())
        number = chance.choice(SIGNALS)
        if chance.random() < STARTED:
            page, address = _open()
            with _visiting(address):
                time.sleep(chance.uniform(0, VISIT))
                code, said = page.end(number)
        else:
            page = Forked(["web", "-o", "out"])
            time.sleep(usual * chance.random())
            code, said = page.end(number)
        tally.refused += code != 0
        wrong = improper(number, code, said) if code else ["the page ends by itself"]
        if number != signal.SIGKILL and left_over(page.process):
            wrong.append(f"a temporary file stays after {number.name}")
        if last and not wrong:
            page, _ = _open()
            wrong = improper(signal.SIGTERM, *page.end(signal.SIGTERM))
            wrong += [f"{left} stays after the next page" for left in [*left_over(), *os.listdir("tmp")][:1]]
        return wrong

    try:
        with inside(folder / "first"):
            begun = time.monotonic()
            page, _ = _open()
            usual = time.monotonic() - begun
            page.end(signal.SIGTERM)
        for i in range(times):
            last = i % IN_A_ROW == IN_A_ROW - 1 or i == times - 1
            attempt(tally, folder / f"pages-{i // IN_A_ROW}", partial(deed, last=last))
    finally:
        tempfile.tempdir = None
    return tally


def _open() -> tuple[Forked, str]:
    """A page that serves, and its address."""
    page = Forked(["web", "--json", "-o", "out"], answers=True)
    line = page.first_line()
    if not line:
        raise ChildProcessError(f"the page ended before it served: {page.end()}")
    return page, json.loads(line)["address"]


@contextmanager
def _visiting(address: str) -> Iterator[None]:
    """A visitor who has uploaded a file, and waits for somebody made up and for pictures."""
    api = f"{address}gradio_api"
    with httpx.Client(timeout=LIMIT) as visitor:
        upload = {"files": ("photo.jpg", bytes(100_000))}
        visitor.post(f"{api}/upload", files=upload).raise_for_status()
        functions = {each["api_name"]: each["id"] for each in visitor.get(f"{address}config").json()["dependencies"]}
        calls = {
            "sample": ["eve", 1, None],
            "draw": ["a photo on the beach", 8, 2, 0, 1, False, 1, "", "", None, None, None],
        }
        for name, data in calls.items():
            call = {"fn_index": functions[name], "data": data, "session_hash": "s"}
            visitor.post(f"{api}/queue/join", json=call).raise_for_status()
        with visitor.stream("GET", f"{api}/queue/data?session_hash=s") as answer:
            answer.raise_for_status()
            yield


def full(argv: list[str], times: int, seed: str, folder: Path) -> Tally:
    """Let no file become larger than some size, as on a full disk: an older file stays, and one line is said."""
    chance, tally = random.Random(f"full {argv} {seed}"), Tally()

    def deed() -> list[str]:
        code, said = Forked(argv, max_bytes=chance.randrange(1500)).end()
        tally.refused += code == 2
        ours = all(line.startswith("celeb-basis: ") for line in said.splitlines())  # notices, and the error
        one_line = said.count("celeb-basis: error: ") == (code == 2)
        return ([] if code in (0, 2) and ours and one_line else [f"exit code {code}, {said[-300:]!r}"]) + left_over()

    for i in range(times):
        attempt(tally, folder / f"full-{i}", deed)
    return tally


def together(argv: list[str], times: int, _: str, folder: Path) -> Tally:
    """Two processes write to one place."""
    tally = Tally()

    def deed() -> list[str]:
        ends = [command.end() for command in (Forked(argv), Forked(argv))]
        return [f"exit code {code}, {said[-300:]!r}" for code, said in ends if code] + left_over()

    for i in range(times):
        attempt(tally, folder / f"together-{i}", deed)
    return tally

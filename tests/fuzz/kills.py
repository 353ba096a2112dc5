"""Commands that are stopped, that find the disk full, or that write to one place at once: no file is torn."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import httpx
from files import Tally
from PIL import Image

from celeb_basis import CelebBasis, Identity, evaluate
from celeb_basis.cli import main
from celeb_basis.files import remove_abandoned
from celeb_basis.miniature import demo

LIMIT = 300  # seconds that a command may take on a busy machine
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STARTED = 0.5  # of the pages, the share that is stopped after it serves
VISIT = 1.0  # seconds in which it is


def start(argv: Sequence[str], *, most_bytes: int | None = None, says: int | None = None) -> int:
    """Run a command in a fork of this process, which has imported everything; returns the process.

    says: the file descriptor that becomes its stdout.
    """
    process = os.fork()
    if process:
        return process
    code = 99  # a traceback
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing if says is None else says, 1)
        os.dup2(nothing, 2)
        sys.stdout = open(1, "w", closefd=False)  # the parent's may be a file, in which it would look for its place
        for number in (signal.SIGINT, signal.SIGTERM):  # until the command hears them
            signal.signal(number, signal.SIG_DFL)
        remove_abandoned.cache_clear()  # a new process has looked nowhere yet
        _hasten()
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        code = main(argv)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 98
    finally:
        os._exit(code)


def _hasten() -> None:
    """Let the demo, which has no options for it, draw fewer pictures after fewer steps."""
    demo.SCENES = dict(list(demo.SCENES.items())[:1])
    demo.Recipe = partial(demo.Recipe, max_train_steps=2, num_pictures=8)
    demo.generate = partial(demo.generate, num_inference_steps=1)
    demo.evaluate = partial(evaluate, prompts={"scene": ("a photo of {}",)}, celebrities=1)


def ended(process: int) -> int:
    """The exit code, negative for a signal; -99 for a command that had to be killed as it went on for ever."""
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return -99


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
        "fit": ["fit", str(photo), "--name", "eve", "--steps", "2", "--num-pictures", "8", "-o", "out.safetensors"],
        "demo": ["demo", "-o", "demo"],
        "evaluate": [
            "evaluate", "--identity", str(ann), "--photo", str(photo), "--prompts", str(prompts), "--seeds", "3",
            "--celebrities", "1", "--steps", "1", "-o", "evaluation",
        ],
    }  # fmt: skip


def torn(folder: Path) -> list[str]:
    """Files that are neither whole nor temporary."""
    wrong = []
    for file in folder.rglob("*"):
        if not file.is_file() or file.name.startswith(".celeb-basis-"):
            continue
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


def left_over(folder: Path) -> list[str]:
    """Temporary files and folders."""
    return [str(file.relative_to(folder)) for file in folder.rglob(".celeb-basis-*")]


def attempt(tally: Tally, place: Path, deed: Callable[[], list[str]]) -> None:
    """One case in a folder of its own, in which the command runs."""
    place.mkdir()
    before = os.getcwd()
    os.chdir(place)
    begun = time.monotonic()
    try:
        tally.tried += 1
        tally.failures += [*deed(), *torn(place)][:1]
    except (ChildProcessError, httpx.HTTPError) as error:
        tally.failures.append(f"{type(error).__name__}: {error}")
    finally:
        os.chdir(before)
        tally.slowest = max(tally.slowest, time.monotonic() - begun)


def kill(argv: list[str], times: int, seed: int, folder: Path) -> Tally:
    """Stop a command somewhere between its beginning and its end; then run it again, undisturbed."""
    chance, tally = random.Random(f"{argv} {seed}"), Tally()
    begun = time.monotonic()
    attempt(tally, folder / "first", lambda: [] if ended(start(argv)) == 0 else ["the command itself fails"])
    usual = time.monotonic() - begun

    def deed() -> list[str]:
        process = start(argv)
        # Half of them near the end, where files are written.
        time.sleep(usual * (chance.random() if chance.random() < 0.5 else chance.uniform(0.8, 1.1)))
        number = chance.choice(SIGNALS)
        os.kill(process, number)
        code = ended(process)
        wrong = unexpected(code, number)
        tally.refused += code == 128 + number
        if left_over(Path(".")):
            if number != signal.SIGKILL:
                wrong.append(f"a temporary file stays after {number.name}")
            elif ended(start(argv)) or left_over(Path(".")):
                wrong.append("a temporary file stays after the next run")
        return wrong

    for i in range(times):
        attempt(tally, folder / f"killed-{i}", deed)
    return tally


def unexpected(code: int, number: signal.Signals) -> list[str]:
    """Whether an exit code is one that a stopped command may have."""
    # Before the command has begun, a signal ends the process as it does any; some commands were done before it came.
    expected = {0, -number} if number == signal.SIGKILL else {0, -number, 128 + number}
    return [] if code in expected else [f"exit code {code} after {number.name}"]


def pages(times: int, seed: int, folder: Path) -> Tally:
    """Stop the page before it serves, or while a visitor uploads and makes people up; then start the next one."""
    chance, tally = random.Random(f"pages {seed}"), Tally()
    usual, process = _open(folder)
    os.kill(process, signal.SIGTERM)
    ended(process)

    def deed() -> list[str]:
        number = chance.choice(SIGNALS)
        Path("tmp").mkdir()
        tempfile.tempdir = str(Path("tmp").absolute())
        if chance.random() < STARTED:
            _, process = _open(Path("."), visits=True)
            time.sleep(chance.uniform(0, VISIT))
        else:
            process = start(["web", "-o", "out"])
            time.sleep(chance.uniform(0, usual))
        os.kill(process, number)
        code = ended(process)
        wrong = unexpected(code, number) if code else ["the page ends by itself"]
        tally.refused += code == 128 + number
        if number != signal.SIGKILL:
            return wrong + left_over(Path("."))
        if left_over(Path(".")):
            _, process = _open(Path("."))
            os.kill(process, signal.SIGTERM)
            wrong += unexpected(ended(process), signal.SIGTERM) + left_over(Path("."))
        return wrong

    try:
        for i in range(times):
            attempt(tally, folder / f"page-{i}", deed)
    finally:
        tempfile.tempdir = None
    return tally


def _open(place: Path, *, visits: bool = False) -> tuple[float, int]:
    """Start a page; returns the seconds that it took, and the process."""
    begun = time.monotonic()
    reads, says = os.pipe()
    process = start(["web", "--json", "-o", str(place / "out")], says=says)
    os.close(says)
    with open(reads) as lines:
        line = lines.readline()
    if not line:
        raise ChildProcessError(f"the page ended before it served: exit code {ended(process)}")
    address = json.loads(line)["address"]
    took = time.monotonic() - begun
    if visits:
        api = f"{address}gradio_api"
        httpx.post(f"{api}/upload", files={"files": ("photo.jpg", bytes(100_000))}, timeout=LIMIT).raise_for_status()
        functions = httpx.get(f"{address}config", timeout=LIMIT).json()["dependencies"]
        sample = next(each["id"] for each in functions if each["api_name"] == "sample")
        call = {"fn_index": sample, "data": ["eve", 1, None], "session_hash": "s"}
        httpx.post(f"{api}/queue/join", json=call, timeout=LIMIT).raise_for_status()
    return took, process


def full(argv: list[str], times: int, seed: int, folder: Path) -> Tally:
    """Let no file become larger than some size, as on a full disk: an older file stays, and one line is said."""
    chance, tally = random.Random(f"full {argv} {seed}"), Tally()

    def deed() -> list[str]:
        code = ended(start(argv, most_bytes=chance.randrange(1500)))
        return ([] if code in (0, 2) else [f"exit code {code}"]) + left_over(Path("."))

    for i in range(times):
        attempt(tally, folder / f"full-{i}", deed)
    return tally


def together(argv: list[str], times: int, folder: Path) -> Tally:
    """Two processes write to one place."""
    tally = Tally()

    def deed() -> list[str]:
        codes = [ended(process) for process in (start(argv), start(argv))]
        return ([] if codes == [0, 0] else [f"exit codes {codes}"]) + left_over(Path("."))

    for i in range(times):
        attempt(tally, folder / f"together-{i}", deed)
    return tally

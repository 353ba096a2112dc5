"""Commands that are stopped, that find the disk full, or that write to one place at once: no file is torn."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from files import Tally
from PIL import Image

from celeb_basis import CelebBasis, Identity
from celeb_basis.cli import main

LIMIT = 120  # seconds that a command may take


def start(argv: Sequence[str], *, most_bytes: int | None = None) -> int:
    """Run a command in a fork of this process, which has imported everything; returns the process."""
    process = os.fork()
    if process:
        return process
    code = 99  # a traceback
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        code = main(argv)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 98
    finally:
        os._exit(code)


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
    return {
        "sample": ["sample", "--name", "eve", "-o", "out.safetensors"],
        "blend": ["blend", str(ann), str(ben), "--name", "eve", "-o", "out.safetensors"],
        "basis": ["basis", "--n-components", "8", "-o", "basis.safetensors", "--spectrum", "plot.png"],
        "miniature person": ["miniature", "person", "-o", "person.jpg"],
        "generate": ["generate", "a photo of <ann>", "--identity", str(ann), "-n", "5", "--steps", "1", "-o", "drawn"],
        "fit": ["fit", str(photo), "--name", "eve", "--steps", "2", "-o", "out.safetensors"],
    }


def torn(folder: Path) -> list[str]:
    """Files that are neither whole nor temporary."""
    wrong = []
    for file in folder.rglob("*"):
        if not file.is_file() or file.name.startswith(".celeb-basis-"):
            continue
        try:
            if file.suffix == ".safetensors":
                (CelebBasis if file.name.startswith("basis") else Identity).load(file)
            else:
                with Image.open(file) as image:
                    image.load()
        except Exception as error:
            wrong.append(f"{file.name}: {error}")
    return wrong


def left_over(folder: Path) -> list[str]:
    """Temporary files."""
    return [file.name for file in folder.rglob(".celeb-basis-*")]


def attempt(tally: Tally, place: Path, deed: Callable[[], list[str]]) -> None:
    """One case in a folder of its own, in which the command runs."""
    place.mkdir()
    before = os.getcwd()
    os.chdir(place)
    begun = time.monotonic()
    try:
        tally.tried += 1
        tally.failures += [*deed(), *torn(place)][:1]
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
        number = chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        os.kill(process, number)
        code = ended(process)
        expected = {0, 128 + number} if number != signal.SIGKILL else {0, -number}
        # Before the command has begun, a signal ends the process as it does any.
        expected |= {-number, 99} if number != signal.SIGKILL else set()
        wrong = [] if code in expected else [f"exit code {code} after {signal.Signals(number).name}"]
        if number != signal.SIGKILL and left_over(Path(".")):
            wrong.append(f"a temporary file stays after {signal.Signals(number).name}")
        return wrong

    for i in range(times):
        attempt(tally, folder / f"killed-{i}", deed)
    return tally


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

"""Ctrl-C and SIGTERM at any instant of a real command: while Python starts, a model loads, the hub dribbles."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from conftest import make_pipeline
from files import Tally
from hub import serve
from loopback import Handler, serving

SAID = "celeb-basis: stopped\n"
LIMIT = 120  # seconds that a command may go on after a signal
SLOWEST = 2.0  # seconds until it ends, which a busy machine may exceed: they are printed, and do not count as failed


def launch(argv: Sequence[str], place: Path, **env: str) -> subprocess.Popen[str]:
    """A command in a process of its own, which hears Ctrl-C."""
    return subprocess.Popen(
        [sys.executable, "-m", "celeb_basis", *argv], cwd=place, env=os.environ | env, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def stop(process: subprocess.Popen[str], number: signal.Signals, tally: Tally) -> None:
    """Send a signal, and look at how the command ends."""
    tally.tried += 1
    process.send_signal(number)
    begun = time.monotonic()
    try:
        _, said = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
    tally.slowest = max(tally.slowest, time.monotonic() - begun)
    tally.refused += process.returncode != 0
    tally.failures += improper(number, process.returncode, said)


def improper(number: signal.Signals, code: int, said: str) -> list[str]:
    """What is wrong with the end of a command to which a signal was sent; nothing where it keeps its promise.

    code: negative for the number of a signal that ended it. Promised are one line and the code by which a shell knows
    the signal. SIGKILL, or any signal before the first line of celeb-basis runs, ends a process without a word; and a
    command may have been done before.
    """
    stopped = code == 128 + number and said.endswith(SAID)
    if code in (0, -number) or stopped:
        return [f"{number.name}: {said[said.index('Traceback') :][-600:]!r}"] if "Traceback" in said else []
    return [f"{number.name}: exit code {code}, {said[-300:]!r}"]


def signals(chance: random.Random) -> signal.Signals:
    """Ctrl-C twice as often as SIGTERM."""
    return chance.choice([signal.SIGINT, signal.SIGINT, signal.SIGTERM])


def anywhere(argv: Sequence[str], times: int, seed: str, folder: Path) -> Tally:
    """Stop a command at any instant between its birth and its end."""
    chance, tally = random.Random(f"{argv} {seed}"), Tally()
    begun = time.monotonic()
    process = launch(argv, folder)
    process.communicate()
    usual = time.monotonic() - begun
    if process.returncode:
        tally.failures.append(f"the command itself fails: {process.returncode}")
    for _ in range(times):
        process = launch(argv, folder)
        time.sleep(usual * chance.uniform(0, 1.05))
        stop(process, signals(chance), tally)
    return tally


def downloading(times: int, seed: str, folder: Path) -> Tally:
    """Stop a command between the hub's first byte and its last, which never comes."""
    chance, tally = random.Random(f"hub {seed}"), Tally()
    model = folder / "model"
    make_pipeline("sd1").save_pretrained(model)
    with serve({"owner/model": {"main": model}}) as (address, _), dribbling(address) as (slow, begun):
        for i in range(times):
            begun.clear()
            argv = ["generate", "a photo", "--model", "owner/model"]
            process = launch(argv, folder, HF_ENDPOINT=slow, HF_HOME=str(folder / f"hub-{i}"), HF_HUB_OFFLINE="0")
            if not begun.wait(LIMIT):
                tally.failures.append("the hub was not asked")
            time.sleep(chance.uniform(0, 3))
            stop(process, signals(chance), tally)
    return tally


@contextmanager
def dribbling(address: str) -> Iterator[tuple[str, threading.Event]]:
    """A hub that answers as the one at `address`, but sends large files byte by byte; an event says when it began."""
    import urllib.error
    import urllib.request

    begun, ended = threading.Event(), threading.Event()

    class Slow(Handler):
        def do_GET(self) -> None:
            try:
                answer = urllib.request.urlopen(urllib.request.Request(address + self.path, method=self.command))
            except urllib.error.HTTPError as error:
                answer = error
            body = answer.read()
            self.send_response(answer.status)
            for name in ("Content-Length", "ETag", "X-Repo-Commit", "X-Error-Code"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.end_headers()
            if self.command == "HEAD":
                return
            if "safetensors" not in self.path:
                self.wfile.write(body)
                return
            begun.set()
            for i in range(len(body)):
                self.wfile.write(body[i : i + 1])
                if ended.wait(0.05):
                    return

        do_HEAD = do_GET

    with serving(Slow) as slow:
        try:
            yield slow, begun
        finally:
            ended.set()

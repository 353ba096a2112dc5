"""Ctrl-C and SIGTERM at any instant of a real command: while Python starts, a model loads, the hub dribbles."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

#from conftest import make_pipeline
from files import Tally
#from models.hub import serve

LIMIT = 120  # seconds that a command may take
PROMPT = 5.0  # seconds after a signal until the process has ended, on a busy machine
SAID = "celeb-basis: stopped\n"


def launch(argv: list[str], place: Path, env: Mapping[str, str]) -> subprocess.Popen[str]:
    """A command in a process of its own, which hears Ctrl-C."""
    return subprocess.Popen(
        [sys.executable, "-m", "celeb_basis", *argv], cwd=place, env=os.environ | env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def stop(process: subprocess.Popen[str], number: signal.Signals, tally: Tally) -> None:
    """Send a signal, and look at how the command ends."""
    process.send_signal(number)
    begun = time.monotonic()
    try:
        out, said = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        out, said = process.communicate()
        tally.failures.append(f"{number.name}: goes on")
    took = time.monotonic() - begun
    tally.slowest = max(tally.slowest, took)
    code = process.returncode
    if code == 128 + number and said == SAID:
        tally.refused += 1
        if took > PROMPT:
            tally.failures.append(f"{number.name}: {took:.0f} s until it ends")
    elif code == -number and not said:
        tally.early += 1  # Python itself was starting
    elif code != 0 or said:
        tally.failures.append(f"{number.name}: exit code {code}, {said[-400:]!r}")


def anywhere(argv: list[str], times: int, seed: int, folder: Path, env: Mapping[str, str] = {}) -> Tally:  # noqa: B006
    """Stop a command at any instant between its birth and its end."""
    chance, tally = random.Random(f"{argv} {seed}"), Tally()
    begun = time.monotonic()
    process = launch(argv, folder, env)
    if process.communicate(timeout=LIMIT) and process.returncode != 0:
        tally.failures.append("the command itself fails")
    usual = time.monotonic() - begun
    for _ in range(times):
        tally.tried += 1
        process = launch(argv, folder, env)
        time.sleep(usual * chance.uniform(0, 1.05))
        stop(process, chance.choice([signal.SIGINT, signal.SIGINT, signal.SIGTERM]), tally)
    return tally

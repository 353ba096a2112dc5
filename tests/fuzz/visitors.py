"""Many visitors of one page at once: what they get, and what it costs in memory and on the disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from gradio_client import Client
from PIL import Image


def visit(address: str, number: int, failures: list[str]) -> None:
    """Make somebody up and draw them."""
    try:
        client = Client(address, verbose=False, httpx_kwargs={"timeout": 300})  # of a busy machine
        client.predict(f"v{number}", number, api_name="/sample")
        _, [picture] = client.predict(f"a photo of <v{number}>", 1, 2, 0, number, api_name="/draw")
        with Image.open(picture["image"]) as image:
            image.load()
        client.close()
    except Exception as error:
        failures.append(f"{type(error).__name__} {str(error)[:80]}")


def size(folder: Path) -> int:
    """Return how many bytes are in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def attack(visitors: int, folder: Path, rounds: int = 2) -> dict[str, Any]:
    """Serve a page on this machine's own address, and let so many come at once, several times."""
    command = [sys.executable, "-m", "celeb_basis", "web", "--json", "-o", str(folder / "out")]
    uploads = folder / "tmp"
    uploads.mkdir()
    env = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(uploads)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    failures: list[str] = []
    memory, disk, peak = [], [], 0
    begun = time.monotonic()
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        server = psutil.Process(process.pid)
        memory.append(server.memory_info().rss)
        for _ in range(rounds):
            threads = [threading.Thread(target=visit, args=(address, n, failures)) for n in range(visitors)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                peak = max(peak, server.memory_info().rss)
                time.sleep(0.2)
            memory.append(server.memory_info().rss)
            disk.append(size(folder))
        handles = server.num_fds()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    left = [str(file.relative_to(uploads)) for file in uploads.rglob("*/*") if file.is_file()]
    if process.returncode != 143 or said != "celeb-basis: stopped\n":
        failures.append(f"the page ends with {process.returncode}: {said[-300:]}")
    if left:
        failures.append(f"{len(left)} files stay in the temporary folder: {left[:3]}")
    return {
        "tried": visitors * rounds,
        "failed": len(failures),
        "kinds": sorted(set(failures))[:5],
        "memory_mb": [round(bytes / 2**20) for bytes in memory],
        "peak_mb": round(peak / 2**20),
        "disk_kb": [round(bytes / 1024) for bytes in disk],
        "handles": handles,
        "seconds": round(time.monotonic() - begun),
    }

"""A ComfyUI server for tests: its graphs by HTTP, and what it tells about them meanwhile."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PACK = REPOSITORY / "integrations" / "comfyui"


class Server:
    """One server; `run` waits for a graph and returns what its nodes put out."""

    def __init__(self, address, folder):
        self.address, self.folder = address, folder

    def get(self, path):
        with urllib.request.urlopen(f"{self.address}{path}", timeout=60) as answer:
            content = answer.read()
        return json.loads(content) if answer.headers["Content-Type"].startswith("application/json") else content

    def post(self, path, content):
        request = urllib.request.Request(
            f"{self.address}{path}", json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or "{}")
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None

    def submit(self, graph, client=None):
        return self.post("/prompt", {"prompt": graph, "client_id": client or str(uuid.uuid4())})["prompt_id"]

    @contextmanager
    def listening(self, client):
        """A list, growing inside the block, of what the server tells a client: kinds and data, bytes for pictures."""
        told, stopped = [], threading.Event()
        listening = _listen(f"{self.address}/ws?clientId={client}", told, stopped)
        thread = threading.Thread(target=asyncio.run, args=[listening])
        thread.start()
        try:
            while not told:  # it greets
                time.sleep(0.05)
            yield told
        finally:
            stopped.set()
            thread.join()

    def wait(self, job, seconds=300):
        """The job's history: its status, and the outputs of its nodes."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := self.get(f"/history/{job}"):
                return found[job]
            time.sleep(0.2)
        raise TimeoutError(job)

    def run(self, graph, client=None):
        done = self.wait(self.submit(graph, client))
        assert done["status"]["status_str"] == "success", done["status"]["messages"]
        return done

    def ran(self, done):
        """The nodes that were not taken from the cache."""
        cached = next((m["nodes"] for kind, m in done["status"]["messages"] if kind == "execution_cached"), [])
        return {node for node in done["prompt"][2] if node not in cached}

    def picture(self, done, node):
        [image] = done["outputs"][node]["images"]
        return (self.folder / image["type"] / image["subfolder"] / image["filename"]).read_bytes()


async def _listen(address, told, stopped):
    import aiohttp

    async with aiohttp.ClientSession() as session, session.ws_connect(address) as stream:
        while not stopped.is_set():
            with suppress(TimeoutError):
                message = await stream.receive(timeout=0.2)
                if message.type == aiohttp.WSMsgType.TEXT:
                    content = json.loads(message.data)
                    told.append((content["type"], content["data"]))
                elif message.type == aiohttp.WSMsgType.BINARY:
                    told.append(("picture", message.data[8:]))  # behind the kind of message and of picture


@contextmanager
def running(folder):
    """A server with this pack alone, whose files are in `folder`."""
    (folder / "custom_nodes").mkdir(parents=True)
    (folder / "custom_nodes" / "celeb-basis").symlink_to(PACK)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        os.environ.get("COMFYUI_PYTHON", sys.executable), Path(__file__).with_name("start.py"),
        *("--cpu", "--listen", "127.0.0.1", "--port", port, "--base-directory", folder, "--disable-api-nodes"),
        *("--disable-all-custom-nodes", "--whitelist-custom-nodes", "celeb-basis"),
        *("--database-url", "sqlite:///:memory:"),
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    log = folder / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen([*map(str, command)], stdout=out, stderr=out, env=environment, cwd=folder)
    server = Server(f"http://127.0.0.1:{port}", folder)
    try:
        for _ in range(1500):
            assert process.poll() is None, log.read_text()
            try:
                server.get("/system_stats")
                break
            except OSError:
                time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        process.wait(30)

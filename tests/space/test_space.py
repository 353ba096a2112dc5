"""The Space: it starts as the hub starts it, is opened by its own name, and its card says what the hub needs."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from huggingface_hub import SpaceCard
from PIL import Image

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "integrations/space"
NAME = "annika-celeb-basis.hf.space"


@pytest.fixture(scope="module")
def address():
    """The page, served by app.py from a folder of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = {"SPACE_HOST": NAME, "GRADIO_SERVER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "app.py"], cwd=SPACE, env=os.environ | own, stdout=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        assert line.startswith("miniature draws at http://")
        yield f"http://127.0.0.1:{port}/"
        process.terminate()


def test_it_is_opened_by_its_own_name_also_in_a_frame_of_the_hub(address):
    def opened(name, **headers):
        return httpx.get(address, headers={"host": name, **headers})

    in_frame = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    answer = opened(NAME, **in_frame)
    assert answer.status_code == 200 and "celeb-basis" in answer.text
    assert answer.headers["content-security-policy"] == "frame-ancestors https://huggingface.co"
    assert "x-frame-options" not in answer.headers
    assert opened("elsewhere.example").status_code == 421


def test_it_draws(address):
    client = Client(address, verbose=False)
    assert Path(client.predict("eve", 3, api_name="/sample")).name == "eve.safetensors"
    _, [picture] = client.predict("a photo of <eve>", 1, 1, None, 0, api_name="/draw")
    assert Image.open(picture["image"]).width == 128
    with pytest.raises(Exception, match="this page offers miniature"):
        client.predict("owner/model", None, None, api_name="/model")


def test_its_card_is_one_of_the_hub_and_of_the_versions_that_are_tested():
    card = SpaceCard.load(SPACE / "README.md").data.to_dict()
    pinned = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert card["sdk"] == "gradio" and card["sdk_version"] == pinned["gradio"]
    assert (SPACE / card["app_file"]).is_file() and card["license"] == "apache-2.0"
    assert card["colorFrom"] in (colors := "red yellow green blue indigo purple pink gray".split())
    assert card["colorTo"] in colors and len(card["short_description"]) <= 60

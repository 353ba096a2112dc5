"""The whole way on a model, and its page."""

import re
from pathlib import Path

import pytest
import torch
from called import answer, complaint
from conftest import NAMES
from PIL import Image
from published import build

from celeb_basis import check
from celeb_basis.backend.card import lay_card
from celeb_basis.cli import main

PHOTOS = Path(__file__).parents[1] / "photos"
STAGES = ["load", "basis", "names", "photo", "fit", "draw", "evaluate"]


@pytest.fixture
def short(monkeypatch):
    """Fewer names, prompts and celebrities."""
    from celeb_basis.evaluation import protocols

    monkeypatch.setattr(check, "NAMES", 2)
    monkeypatch.setattr(check, "CELEBRITIES", 1)
    monkeypatch.setitem(protocols.PROTOCOLS, "short", protocols.Protocol({"scene": protocols.PROMPTS[:1]}))


def stages_of(page):
    """The stages in a page's table, with what came of each."""
    return dict(re.findall(r"^\| (\w+) \| [\d.]+ \| [\d.]+ \| (.*) \|$", page, re.MULTILINE))


def test_the_whole_way_on_the_miniature(short, tmp_path, capsys):
    report = answer(capsys, "check", "--steps", 40, "-o", tmp_path)
    page = (tmp_path / "check.md").read_text()
    assert list(stages_of(page)) == STAGES and report["page"] == str(tmp_path / "check.md")
    assert "of somebody made up" in report["photo"]["photos"] and report["names"]["one face in"] == "2 of 2"
    assert re.fullmatch(r"0\.\d\d at step 2\d, 0\.\d\d at step 40", report["fit"]["likeness"])
    assert report["evaluate"]["identity"] > 0.4 and report["evaluate"]["judge"] == "miniature-evaluation"
    assert page.startswith("# celeb-basis check of miniature") and "](check.png)" in page
    assert Image.open(tmp_path / "check.png").width > 1000
    assert {file.name for file in tmp_path.iterdir()} == {"check.md", "check.png"}


def test_the_whole_way_on_a_published_checkpoint(short, tmp_path, capsys):
    """Of random weights, with real photographs and their readers: its pictures show nobody, and the page says so."""
    pytest.importorskip("cv2")
    model, photos = build("stable-diffusion-v1-5", tmp_path), tmp_path / "photos"
    photos.mkdir()
    (photos / "obama.jpg").write_bytes((PHOTOS / "obama__senate.jpg").read_bytes())
    lay_card(model, {"num_inference_steps": 2}, {})
    names = tmp_path / "names.txt"
    names.write_text("\n".join(NAMES))
    basis = tmp_path / "basis.safetensors"
    answer(capsys, "basis", "--model", model, "--names", names, "-o", basis, "--device", "cpu")
    command = ["check", "--model", model, "--basis", basis, "--photos", photos, "--steps", 2, "-o", tmp_path / "check"]
    assert main([*map(str, command), "--clip", "none", "--device", "cpu"]) == 0
    page = (tmp_path / "check/check.md").read_text()
    said = stages_of(page)
    assert list(said) == STAGES and "1, given" in said["photo"] and "0 of 2" in said["names"]
    assert "likeness: not drawn" in said["fit"] and "identity: 0.0" in said["evaluate"]
    assert str(tmp_path) not in page


def test_a_page_tells_how_far_it_went(short, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (200, 200), "grey").save(photos / "wall.png")
    assert "no face found" in complaint(capsys, "check", "--photos", photos, "-o", tmp_path / "check")
    page = (tmp_path / "check/check.md").read_text()
    assert list(stages_of(page)) == STAGES[:3]
    assert "**It ended after names:** NoFaceError" in page and "check.png" not in page


def test_what_a_model_is_called_breaks_no_table(tmp_path):
    stage = check.Stage("load", 1, 1, {"pipeline": "a | b <img src=x> `c`\nd"})
    page = check.write_page(tmp_path, "folder/[x](http://y) | <b>", [stage]).read_text()
    assert list(stages_of(page)) == ["load"] and not re.search(r"(?<!\\)[<`]", page)
    assert "(http" not in page or "\\](http" in page


def test_nothing_is_loaded_for_photos_that_are_none(tmp_path, capsys):
    assert "no such folder" in complaint(capsys, "check", "--model", "not/here", "--photos", tmp_path / "nothing")
    assert not (tmp_path / "check").exists() and torch.is_grad_enabled()

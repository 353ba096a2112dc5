"""What can be said of the pack without ComfyUI: prompts, metadata, example workflows."""

import ast
import importlib.util
import json
import re
import tomllib
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from server import PACK, REPOSITORY

from celeb_basis import Identity

spec = importlib.util.spec_from_file_location("pack_text", PACK / "text.py")
text = importlib.util.module_from_spec(spec)
spec.loader.exec_module(text)
WORKFLOWS = sorted((PACK / "example_workflows").glob("*.json"))


class Words:
    """A tokenizer that looks up embeddings as ComfyUI's do, word by word."""

    tokenizer = "its own, which says that it is one"
    embedding_directory = None

    def _try_get_embedding(self, text):
        return None, text.partition(" ")[2]

    def tokenize_with_weights(self, text, return_word_ids=False):
        tokens = []
        for i, piece in enumerate(re.split(" embedding:", text)):
            looked_up = i and self.embedding_directory is not None
            found, rest = self._try_get_embedding(piece) if looked_up else (None, piece)
            tokens += [] if found is None else list(found)
            tokens += rest.split()
        return tokens


class Two:
    def __init__(self):
        self.clip_l, self.clip_g = Words(), Words()

    def tokenize_with_weights(self, text, return_word_ids=False):
        return {name: getattr(self, name).tokenize_with_weights(text) for name in ("clip_l", "clip_g")}


class Clip:
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def clone(self):
        return Clip(self.tokenizer)


def person(token, seed):
    vectors = torch.randn(2, 14, generator=torch.Generator().manual_seed(seed))
    return Identity(token, vectors, (6, 8))


def test_a_token_becomes_its_vectors_for_each_text_encoder():
    annika, tovik = person("<annika>", 0), person("<tovik>", 1)
    plain = Clip(Two())
    clip = text.with_identity(text.with_identity(plain, annika), tovik)
    words = clip.tokenizer.tokenize_with_weights("a photo of <Annika>, smiling, and <tovik>'s hat")
    for name, columns in {"clip_l": slice(0, 6), "clip_g": slice(6, 14)}.items():
        found = words[name]
        assert [w for w in found if isinstance(w, str)] == ["a", "photo", "of", ",", "smiling,", "and", "'s", "hat"]
        vectors = torch.stack([w for w in found if not isinstance(w, str)])
        assert torch.equal(vectors, torch.cat([annika.vectors, tovik.vectors])[:, columns])
    assert plain.tokenizer.tokenize_with_weights("a <annika>")["clip_l"] == ["a", "<annika>"]
    again = text.with_identity(clip, person("<annika>", 2)).tokenizer.tokenize_with_weights("<annika>")["clip_l"]
    assert not torch.equal(again[0], annika.vectors[0, :6])


def test_other_clips_are_refused():
    tokenizer = Two()
    tokenizer.t5xxl = Words()
    with pytest.raises(ValueError, match="SD 1, SD 2 and SDXL"):
        text.part_names(Clip(tokenizer))
    with pytest.raises(ValueError, match="SD 1, SD 2 and SDXL"):
        text.part_names(Clip(SimpleNamespace()))


def test_the_registry_finds_what_it_asks_for():
    facts = tomllib.loads((PACK / "pyproject.toml").read_text())
    assert {"name", "version", "description", "dependencies", "license"} <= facts["project"].keys()
    assert {"PublisherId", "DisplayName", "requires-comfyui"} <= facts["tool"]["comfy"].keys()
    assert "comfyui" not in facts["project"]["name"].lower() and re.fullmatch(
        "[a-z][a-z0-9-]+", facts["project"]["name"]
    )
    with Image.open(PACK / "icon.png") as icon:
        assert icon.width == icon.height <= 400
    ours = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert any(re.match(r"celeb-basis\b", need) for need in facts["project"]["dependencies"])
    assert facts["project"]["version"] == ours["project"]["version"]


def node_ids():
    """The nodes that nodes.py defines."""
    tree = ast.parse((PACK / "nodes.py").read_text())
    return {word.value.value for word in ast.walk(tree) if isinstance(word, ast.keyword) and word.arg == "node_id"}


def test_the_readme_tells_of_every_node():
    readme = (PACK / "README.md").read_text()
    tree = ast.parse((PACK / "nodes.py").read_text())
    for word in ast.walk(tree):
        if isinstance(word, ast.keyword) and word.arg == "display_name" and isinstance(word.value, ast.Constant):
            assert word.value.value in readme or word.value.value == "identity", word.value.value


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflows_are_whole(file):
    flow = json.loads(file.read_text())
    nodes = {node["id"]: node for node in flow["nodes"]}
    assert {n["type"] for n in flow["nodes"] if n["type"].startswith("CelebBasis")} <= node_ids()
    for _, source, output, target, slot, kind in flow["links"]:
        assert kind in (nodes[source]["outputs"][output]["type"], nodes[target]["inputs"][slot]["type"])


def test_there_are_workflows_with_thumbnails():
    assert len(WORKFLOWS) == 2
    for file in WORKFLOWS:
        with Image.open(file.with_suffix(".jpg")) as thumbnail:
            assert thumbnail.format == "JPEG" and thumbnail.width >= 256

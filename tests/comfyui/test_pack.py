"""What can be said of the pack without ComfyUI: prompts, metadata, example workflows."""

import ast
import importlib.util
import json
import re
import tomllib
from types import SimpleNamespace

import pytest
import torch
from flows import qwen_tokenizer
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
            found, *_, rest = self._try_get_embedding(piece) if looked_up else (None, piece)
            tokens += [] if found is None else list(found)
            tokens += rest.split()
        return tokens


class LaterWords(Words):
    """As since ComfyUI 0.27."""

    def _try_get_embedding(self, text):
        return None, text.partition(" ")[0], text.partition(" ")[2]


class Letters:
    def __init__(self):
        self.tokenizer = qwen_tokenizer()

    def tokenize_with_weights(self, text, return_word_ids=False):
        return [[(i, 1.0) for i in self.tokenizer(text).input_ids]]


class Chat:
    """A tokenizer of a language model, which puts prompts into a chat."""

    def __init__(self):
        self.qwen3_4b = Letters()

    def tokenize_with_weights(self, text, return_word_ids=False):
        return {"qwen3_4b": self.qwen3_4b.tokenize_with_weights(f"<|im_start|>user\n{text}<|im_end|>\n")}


class Two:
    def __init__(self, words=Words):
        self.clip_l, self.clip_g = words(), words()

    def tokenize_with_weights(self, text, return_word_ids=False):
        return {name: getattr(self, name).tokenize_with_weights(text) for name in ("clip_l", "clip_g")}


class Clip:
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def clone(self):
        return Clip(self.tokenizer)


def person(token, seed, dims=(6, 8)):
    vectors = torch.randn(2, sum(dims), generator=torch.Generator().manual_seed(seed))
    return Identity(token, vectors, dims)


@pytest.mark.parametrize("words", [Words, LaterWords])
def test_a_token_becomes_its_vectors_for_each_text_encoder(words):
    annika, tovik = person("<annika>", 0), person("<tovik>", 1)
    plain = Clip(Two(words))
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


def test_a_language_model_reads_a_person_in_place_of_a_word():
    annika, tovik = person("<annika>", 0, (14,)), person("<tovik>", 1, (14,))
    plain = Clip(Chat())
    clip = text.with_identity(text.with_identity(plain, annika), tovik)
    [read] = clip.tokenizer.tokenize_with_weights("a photo of <Annika> in the snow, <tovik>")["qwen3_4b"]
    before, between, behind = (
        plain.tokenizer.qwen3_4b.tokenizer(words).input_ids
        for words in ("<|im_start|>user\na photo of", " in the snow,", "<|im_end|>\n")
    )
    expected = [*before, *annika.vectors, *between, *tovik.vectors, *behind]
    for (one, weight), other in zip(read, expected, strict=True):
        assert weight == 1 and torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    [unread] = plain.tokenizer.tokenize_with_weights("<annika>")["qwen3_4b"]
    assert all(isinstance(one, int) for one, _ in unread)


def test_other_clips_are_refused():
    tokenizer = Two()
    tokenizer.t5xxl = Words()
    with pytest.raises(ValueError, match="SDXL, FLUX"):
        text.part_names(Clip(tokenizer))
    with pytest.raises(ValueError, match="SDXL, FLUX"):
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

"""The small world's pictures, people, words and tokenizer."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from celeb_basis import miniature
from celeb_basis.miniature.drawn import people, world
from celeb_basis.miniature.drawn.captions import FACE_CROP, SIDES, VOCABULARY, WORDS, Sampler, asked

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

from stages.tokenizer import LENGTH, tokenizer  # noqa: E402


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(float)


def _scenes(many: int, n: int = 400) -> tuple[world.Scene, list[str]]:
    sampler = Sampler(many)
    scene = sampler.scenes(sampler.people(n, many))
    names = people.celebrities()
    called = [tuple(names[(7 * i + j) % len(names)] for j in range(many)) for i in range(n)]
    return scene, sampler.captions(scene, called)


def test_two_builds_of_the_tokenizer_are_the_same_bytes(tmp_path):
    code = "from stages.tokenizer import tokenizer; tokenizer().save_pretrained('{}')"
    found = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(TOOLS), *sys.path])}
        subprocess.run([sys.executable, "-c", code.format(folder)], check=True, env=environment)
        found.append({p.name: hashlib.sha256(p.read_bytes()).digest() for p in folder.iterdir()})
    assert found[0] == found[1]
    assert "tokenizer.json" in found[0]


def test_every_word_is_one_token_and_all_captions_fit():
    tokens = tokenizer()
    words = sorted({word for name in people.celebrities() for word in name.split()} | set(VOCABULARY))
    assert all(len(ids) == 3 for ids in tokens(words).input_ids)
    for many in (1, 2, 3):
        assert max(len(ids) for ids in tokens(_scenes(many)[1], truncation=False).input_ids) <= LENGTH
    assert len(tokens(FACE_CROP.format(people.celebrities()[0])).input_ids) == 10


def test_celebrities_differ_though_they_share_a_last_name():
    names, traits = people.celebrities(), people.celebrity_identities()
    assert len(set(names)) == len(names) == len(traits) >= 2000
    assert len({name.split()[0] for name in names}) < 300
    relatives: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        relatives.setdefault(name.split()[1], []).append(i)
    shared = [group for group in relatives.values() if len(group) > 1]
    assert len(shared) > 200
    apart = torch.stack([(traits[a] - traits[b]).square().mean().sqrt() for a, b, *_ in shared])
    assert apart.min() > 0.3
    assert 0.95 < traits.std() < 1.05


def test_the_famous_are_pictured_more_often_and_nobody_is_forgotten():
    fame = people.fame()
    assert (fame.diff() < 0).all()
    assert 5 < fame[0] / fame[-1] < 20


@pytest.mark.parametrize("many", [1, 2, 3])
def test_faces_lie_within_the_picture_and_apart(many):
    scene, _ = _scenes(many)
    boxes = scene.boxes()
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    assert ((centre > 0) & (centre < world.SIZE)).all()
    # A head is a good deal smaller than its square; what sticks out of the picture is air.
    half = (boxes[..., 2] - boxes[..., 0]) / 2 / world.FACE_REACH
    assert (centre[..., 0] - half >= 0).all() and (centre[..., 0] + half <= world.SIZE).all()
    assert (scene.x % 8 == 0).all()
    assert (scene.x.diff(dim=1) >= 40).all()


@pytest.mark.parametrize("many", [1, 2, 3])
def test_pictures_have_their_shape_and_their_people(many):
    scene, _ = _scenes(many, 3)
    pictures = world.draw(scene)
    assert pictures.shape == (3, 3, world.SIZE, world.SIZE)
    assert pictures.isfinite().all() and pictures.min() >= 0 and pictures.max() <= 1
    assert torch.equal(pictures, world.draw(scene))
    scene.x = scene.x - 1000
    assert (pictures - world.draw(scene)).abs().mean() > 0.02


@pytest.mark.parametrize("many", [1, 2, 3])
def test_asked_reads_what_the_sampler_writes(many):
    scene, captions = _scenes(many)
    named = set()
    for i, caption in enumerate(captions):
        for key, value in asked(caption).items():
            assert int(getattr(scene, key).reshape(len(scene), -1)[i, 0]) == value
            named.add(key)
    assert named >= set(WORDS) - ({"object", "headwear"} if many > 1 else set())


@pytest.mark.parametrize("many", [2, 3])
def test_people_stand_where_the_caption_puts_them(many):
    names = ["one", "two", "three"][:many]
    sampler = Sampler(6)
    placed = 0
    for caption in sampler.captions(sampler.scenes(sampler.people(100, many)), [tuple(names)] * 100):
        sides = [f"{name} {side}" for name, side in zip(names, SIDES[many], strict=True)]
        if any(side in caption for side in SIDES[many]):
            assert all(side in caption for side in sides)
            placed += 1
        else:
            assert " and ".join(names) in caption
    assert 20 < placed < 80


def test_a_citizen_is_always_the_same_and_nobody_else():
    assert miniature.person(3).tobytes() == miniature.person(3).tobytes()
    assert np.abs(pixels(miniature.person(3)) - pixels(miniature.person(4))).mean() > 1


def test_a_photograph_shows_the_same_at_every_size():
    large = miniature.person(5, 512).resize((world.SIZE, world.SIZE), Image.Resampling.BOX)
    assert np.abs(pixels(large) - pixels(miniature.person(5, world.SIZE))).mean() < 4

"""The miniature's pipeline as any diffusers user finds it, and its readers."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from fits import fit_identities
from PIL import Image

from celeb_basis import CelebBasis, Identity, InstantMap, Recipe, miniature
from celeb_basis.backend.card import DEFAULT_MODEL, SHIPPED, ModelCard
from celeb_basis.backend.load import load_pipeline
from celeb_basis.backend.text_encoders import name_rows
from celeb_basis.evaluation.evaluate import score
from celeb_basis.faces.face import find_face
from celeb_basis.generate import generate
from celeb_basis.miniature.drawn import world
from celeb_basis.miniature.drawn.captions import WORDS, Sampler
from celeb_basis.miniature.drawn.judge import MiniatureJudge
from celeb_basis.miniature.drawn.people import celebrities, portraits
from celeb_basis.miniature.drawn.readers import evaluation_reader, fitting_reader, shown


def pixels(image):
    return np.asarray(image).astype(float)


def images(pictures):
    return [Image.fromarray((p.permute(1, 2, 0) * 255).round().byte().numpy()) for p in pictures]


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline("miniature")


def test_every_name_is_two_tokens_of_the_shipped_tokenizer(pipe):
    rows, kept = name_rows(pipe, celebrities())
    assert tuple(kept) == celebrities()
    words = [name.split() for name in celebrities()]
    for i in (0, 1):
        assert len(rows[:, i].unique(dim=0)) == len({word[i] for word in words})


def test_stock_diffusers_draws_the_same_picture_with_nothing_of_ours(pipe, tmp_path):
    prompt = f"a photo of {celebrities()[0]} on the beach"
    ours = generate(pipe, prompt, num_inference_steps=4, guidance_scale=2.0, seed=3)[0]
    script = f"""
import sys, torch
from diffusers import StableDiffusionPipeline
torch.set_num_threads({torch.get_num_threads()})
pipe = StableDiffusionPipeline.from_pretrained({str(SHIPPED[DEFAULT_MODEL])!r}, local_files_only=True)
picture = pipe({prompt!r}, num_inference_steps=4, guidance_scale=2.0, generator=torch.Generator().manual_seed(3))
picture.images[0].save({str(tmp_path / "stock.png")!r})
assert not any(name.startswith("celeb_basis") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert pixels(Image.open(tmp_path / "stock.png")).tolist() == pixels(ours).tolist()


def test_the_finder_counts_faces():
    sampler = Sampler(7)
    one = sampler.scenes(sampler.people(40))
    two = sampler.scenes(sampler.people(40, 2))
    three = sampler.scenes(sampler.people(40, 3))
    nobody = sampler.scenes(sampler.people(40))
    nobody.x = nobody.x - 1000
    for scene, count in ((one, 1), (two, 2), (three, 3), (nobody, 0)):
        found = fitting_reader().read(images(world.draw(scene)))
        assert np.mean([len(faces) == count for faces in found]) >= 0.95, count


def test_boxes_are_in_the_photograph_s_own_pixels():
    photo = Image.new("RGB", (900, 600), "black")
    photo.paste(miniature.person(8, 512), (300, 50))
    left, top, right, bottom = find_face(photo, fitting_reader()).box
    assert 300 - 40 < left and right < 812 + 40 and top > 50 - 60 and bottom < 562 + 60
    assert right - left == pytest.approx(bottom - top)


@pytest.mark.parametrize("reader", [fitting_reader, evaluation_reader])
def test_recognisers_tell_unseen_people_apart(reader):
    sampler = Sampler(8)
    identity = sampler.people(60)
    features = []
    for _ in range(2):
        scene = sampler.scenes(identity)
        scene.style, scene.framing = torch.zeros(60).long(), torch.ones(60).long()
        scene.x, scene.object = torch.full((60, 1), world.SIZE / 2), torch.zeros(60, 1).long()
        found = reader().read(images(world.draw(scene)))
        features.append(torch.stack([faces[0].feature for faces in found]))
    nearest = (features[0] @ features[1].T).argmax(1)
    assert (nearest == torch.arange(60)).float().mean() >= 0.9


def test_the_judge_reads_unseen_pictures():
    sampler = Sampler(9)
    scene = sampler.scenes(sampler.people(200))
    seen = shown(images(world.draw(scene)))
    for attribute in WORDS:
        truth = getattr(scene, attribute).reshape(200).tolist()
        assert np.mean([s.get(attribute) == t for s, t in zip(seen, truth, strict=True)]) >= 0.9, attribute


def test_scores_of_true_pictures_are_high_and_of_other_people_low():
    sampler = Sampler(10)
    identity = sampler.people(40)
    scene = sampler.scenes(identity)
    scene.style = torch.zeros(40).long()
    prompts = sampler.captions(scene, [("ada lovell",)] * 40)
    known = torch.stack([f[0].feature for f in evaluation_reader().read(portraits(identity[:, 0], 128))])
    right = score(images(world.draw(scene)), prompts, known, MiniatureJudge())
    wrong = score(images(world.draw(scene)), prompts, known.roll(1, 0), MiniatureJudge())
    assert right.identity.mean() > 0.6 and abs(wrong.identity.mean()) < 0.2
    assert right.prompt.mean() > 0.95 and right.detection.mean() > 0.95


@pytest.fixture(scope="module")
def shipped():
    return CelebBasis.load(ModelCard.of(DEFAULT_MODEL).basis), InstantMap.load(ModelCard.of(DEFAULT_MODEL).instant_map)


def test_the_shipped_basis_is_the_one_its_pipeline_gives(pipe, shipped):
    basis, instant_map = shipped
    basis.check(pipe)
    instant_map.check(basis)
    again = CelebBasis.from_pipeline(pipe, celebrities(), basis.components.shape[1])
    torch.testing.assert_close(again.components, basis.components)


def test_one_photograph_makes_a_person_of_one_s_own(pipe, shipped):
    basis, instant_map = shipped
    photos = [miniature.person(seed) for seed in (20, 21, 22)]
    faces = [[find_face(photo, fitting_reader())] for photo in photos]
    people = fit_identities(
        pipe, basis, faces, ["<a>", "<b>", "<c>"], Recipe(max_train_steps=2), instant_map=instant_map
    )
    likeness = torch.zeros(3, 3)
    known = torch.stack([find_face(photo, evaluation_reader()).feature for photo in photos])
    for i, person in enumerate(people):
        drawn = generate(pipe, f"a photo of {person.placeholder_token} on the beach", [person], num_images_per_prompt=3)
        for found in evaluation_reader().read(drawn):
            likeness[i] += found[0].feature @ known.T / 3 if found else 0
    assert likeness.argmax(1).tolist() == [0, 1, 2]


def test_stock_diffusers_loads_an_identity_and_draws_the_same(pipe, shipped, tmp_path):
    identity = Identity.sample(shipped[0], "<eve>", torch.Generator().manual_seed(1))
    identity.save(tmp_path / "eve.safetensors")
    ours = generate(pipe, "a photo of <eve> in space", [identity], num_inference_steps=3, guidance_scale=2.0)[0]
    stock = load_pipeline()
    stock.set_progress_bar_config(disable=True)
    stock.load_textual_inversion(tmp_path / "eve.safetensors", token="<eve>")
    options = {"num_inference_steps": 3, "guidance_scale": 2.0}
    theirs = stock("a photo of <eve> in space", generator=torch.Generator().manual_seed(0), **options).images[0]
    assert pixels(ours).tolist() == pixels(theirs).tolist()

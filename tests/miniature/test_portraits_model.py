"""The model of photographed people, as it ships: real photographs, real readers, its own judge."""

import hashlib
import json
import re

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from photographs import EVERYBODY, PHOTOS, photograph

from celeb_basis import CelebBasis, Model, miniature
from celeb_basis.backend.card import SHIPPED
from celeb_basis.cli import main
from celeb_basis.faces.reader import PhotoReader
from celeb_basis.miniature.drawn.captions import asked
from celeb_basis.miniature.portraits.judge import PortraitsJudge
from celeb_basis.miniature.portraits.people import celebrities

OBAMA = PHOTOS / "obama__senate.jpg"


@pytest.fixture(scope="module")
def model():
    return Model.load("portraits")


def digests(pipe):
    """Return what every weight of a pipeline hashes to."""
    parts = (pipe.unet, pipe.vae, pipe.text_encoder)
    weights = [value for part in parts for value in part.state_dict().values()]
    return [hashlib.sha256(value.numpy().tobytes()).hexdigest() for value in weights]


@pytest.mark.parametrize("name", EVERYBODY)
def test_a_real_face_goes_to_the_model_of_photographs(name):
    assert miniature.model_for([photograph(name)]) == "portraits"


@pytest.mark.parametrize("seed", [1, 7, 4003])
def test_a_drawn_face_goes_to_the_model_of_drawings(seed):
    assert miniature.model_for([miniature.person(seed)]) == "miniature"


def test_most_photos_decide_and_people_of_two_models_are_refused(tmp_path, capsys):
    drawn, real = miniature.person(7), [photograph(name) for name in EVERYBODY[:2]]
    assert miniature.model_for([drawn, *real]) == miniature.model_for([drawn, *real[:1]]) == "portraits"
    assert miniature.model_for([drawn, drawn, *real[:1]]) == "miniature"
    drawn.save(tmp_path / "drawn.png")
    assert main(["fit", "--person", f"a={tmp_path / 'drawn.png'}", "--person", f"b={OBAMA}", "-o", str(tmp_path)]) == 2
    assert "need two models" in capsys.readouterr().err


def test_a_made_up_person_knows_the_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "--name", "eve", "--model", "portraits", "--json"]) == 0
    assert main(["generate", "a photo of <eve>", "--identity", "eve.safetensors", "--steps", "1", "-o", "eve.png"]) == 0
    capsys.readouterr()
    photos = ["--photo", str(OBAMA), "--photo", str(PHOTOS / "ardern__2022.jpg")]
    assert main(["evaluate", "--identity", "eve.safetensors", *photos]) == 2
    assert "look like different people" in capsys.readouterr().err
    picture = ["--image", str(OBAMA), "--mask-image", str(OBAMA)]
    assert main(["generate", "a photo of <eve>", "--identity", "eve.safetensors", *picture]) == 2
    assert "portraits cannot draw a part of a picture anew" in capsys.readouterr().err


def test_its_basis_is_the_one_that_its_pipeline_gives(model):
    assert model.basis.names == celebrities()
    again = CelebBasis.from_pipeline(model.pipe, celebrities(), model.basis.components.shape[1])
    assert again.digest == model.basis.digest
    assert model.instant_map.basis_digest == model.basis.digest and not model.instant_map.is_worthless


def test_stock_diffusers_draws_the_same(model):
    stock = StableDiffusionPipeline.from_pretrained(SHIPPED["portraits"], torch_dtype=torch.float32)
    stock.set_progress_bar_config(disable=True)
    prompt = f"a photo of {celebrities()[0]} on the beach"
    card = model.card
    [theirs] = stock(
        prompt, num_inference_steps=card.num_inference_steps, guidance_scale=card.guidance_scale,
        generator=torch.Generator().manual_seed(3),
    ).images  # fmt: skip
    [ours] = model.generate(prompt, seed=3)
    assert np.abs(np.asarray(ours, dtype=int) - np.asarray(theirs, dtype=int)).max() <= 1


def test_faces_of_one_name_are_more_alike_than_those_of_two(model):
    names = celebrities()[:12]
    prompts = [f"a photo of {name} {where}" for where in ("in a studio", "on the beach") for name in names]
    faces = PhotoReader().read(model.generate(prompts, seed=5))
    found = [len(own) == 1 for own in faces]
    assert sum(found) >= 20
    both = [i for i in range(len(names)) if found[i] and found[i + len(names)]]
    first, second = (torch.stack([faces[i + k][0].feature for i in both]) for k in (0, len(names)))
    alike = first @ second.T
    same = alike.diagonal().mean()
    assert same > (alike.sum() - alike.diagonal().sum()) / (len(both) * (len(both) - 1)) + 0.15


def test_two_people_stand_where_they_are_named(model):
    names = celebrities()[:12]
    read = PhotoReader().read
    alone = read(model.generate([f"a close up photo of {name} in the forest" for name in names], seed=5))
    assert all(len(faces) == 1 for faces in alone)
    own = torch.stack([faces[0].feature for faces in alone]).view(-1, 2, 128)
    prompts = [
        f"a photo of {first}{left} and {second}{right} {place}"
        for first, second in zip(names[::2], names[1::2], strict=True)
        for left, right, place in (("", "", "on the beach"), (" on the left", " on the right", "in the snow"))
    ]
    pictures = [sorted(faces, key=lambda face: face.box[0]) for faces in read(model.generate(prompts, seed=5))]
    both = [i for i, faces in enumerate(pictures) if len(faces) == 2]
    assert len(both) >= 10
    alike = torch.stack([torch.stack([face.feature for face in pictures[i]]) @ own[i // 2].T for i in both])
    asked, other = alike.diagonal(dim1=1, dim2=2), alike.flip(-1).diagonal(dim1=1, dim2=2)
    assert asked.mean() > other.mean() + 0.1
    assert (asked > other).all(1).float().mean() > 0.6  # by chance .25


def test_the_command_line_takes_a_real_photo_with_no_more_than_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", str(OBAMA), "--name", "barry", "--steps", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert "--model" not in report["next"]
    assert main(["info", "barry.safetensors", "--json"]) == 0
    assert "portraits" in capsys.readouterr().out
    prompt = re.search('"(.*)"', report["next"])[1]
    assert main(["generate", prompt, "--identity", "barry.safetensors", "-o", "barry.png", "--json"]) == 0
    assert (tmp_path / "barry.png").is_file()


def test_the_demo_takes_a_real_photo(tmp_path, monkeypatch, capsys):
    from functools import partialmethod

    monkeypatch.setattr("celeb_basis.miniature.demo.Model.fit", partialmethod(Model.fit, max_train_steps=1))
    assert main(["demo", "--photo", str(OBAMA), "-o", str(tmp_path / "demo"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"] == "portraits"
    assert -1 <= report["likeness of all that were drawn"] < report["likeness"] <= 1
    assert (tmp_path / "demo" / "contact-sheet.png").is_file()


def test_people_in_pictures_are_most_like_their_own_photographs(model):
    photos = [photograph(name).convert("RGB") for name in EVERYBODY]
    *_, last = model.fit_steps({f"p{i}": photo for i, photo in enumerate(photos)})
    people = last.identities
    assert {person.provenance["max_train_steps"] for person in people} == {str(model.default_train_steps)}
    assert {person.provenance["face_loss_steps"] for person in people} == {str(model.card.face_loss_steps)}
    own = torch.stack([faces[0].feature for faces in PhotoReader().read(photos)])
    prompts = ("a photo of {} on the beach", "a photo of {} in the forest", "a photo of {} in a studio")
    cosines = []
    for i, person in enumerate(people):
        pictures = model.generate([each.format(f"<p{i}>") for each in prompts], [person], seed=7)
        seen = torch.stack([faces[0].feature for faces in PhotoReader().read(pictures) if len(faces) == 1])
        assert len(seen) >= 2
        cosines.append((seen @ own.T).mean(0))
    alike = torch.stack(cosines)
    others = (alike.sum() - alike.diagonal().sum()) / (alike.numel() - len(alike))
    assert alike.diagonal().mean() > others + 0.05


def test_a_fit_leaves_every_weight_as_it_was(model):
    before = digests(model.pipe)
    annika = model.fit(photograph("astronaut"), "annika", max_train_steps=2)
    model.generate("a photo of <annika> in the snow with a crown", [annika], seed=1)
    assert digests(model.pipe) == before


def test_its_judge_sees_what_prompts_ask_for_and_recognises_people(model):
    judge = PortraitsJudge()
    prompts = [f"a photo of {name} {what}" for name, what in zip(celebrities(), (
        "on the beach wearing a red shirt", "in space wearing a spacesuit", "in the forest with a crown",
        "in the desert with a red hat holding a cup", "in the snow smiling wearing a yellow jacket",
    ), strict=False)]  # fmt: skip
    pictures = model.generate(prompts, seed=11)
    assert np.mean(judge.prompt_scores(pictures, prompts)) > 0.9
    turned = [*prompts[1:], prompts[0]]
    assert np.mean(judge.prompt_scores(pictures, turned)) < 0.4
    assert np.isnan(judge.prompt_scores(pictures[:1], ["somebody smiling"])).all()
    assert asked("somebody smiling")
    assert judge.photograph(celebrities()[0]) is None


def test_evaluation_measures_a_person_and_celebrities_beside(model):
    annika = model.fit(photograph("astronaut"), "annika", max_train_steps=1)
    report = model.evaluate(annika, photograph("astronaut"), seeds=1, celebrities=2)
    assert report["judge"] == "dlib-resnet-v1" and report["prompt"]["mean"] > 0.6
    assert report["celebrities"]["detection"]["mean"] > 0.8

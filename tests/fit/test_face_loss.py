"""The face loss: people who are drawn more like their photographs, with nothing of the model changed."""

import re
from dataclasses import replace
from itertools import chain, repeat
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import NAMES, make_pipeline, state_of
from work import PROMPTS as COMPARED

import celeb_basis as cb
from celeb_basis import CelebBasis, Face, IdentityError, Model, ModelError, Recipe, miniature
from celeb_basis.backend.families import get_denoiser
from celeb_basis.evaluation.protocols import PROTOCOLS
from celeb_basis.faces.network import FaceNetwork, cut_squares
from celeb_basis.fit.captions import SCENES
from celeb_basis.fit.face_loss import FaceLoss, decode_around
from celeb_basis.fit.loop import fit_steps
from celeb_basis.limits import MAX_TEMPLATES
from celeb_basis.miniature.drawn.readers import fitting_reader

SHORT = {"max_train_steps": 2, "num_train_images": 2, "face_loss": True}


@pytest.fixture(scope="module")
def model():
    return Model.load("miniature", device="cpu")


@pytest.fixture(scope="module")
def faces(model):
    return [model.find_faces(miniature.person(3000 + i)) for i in range(2)]


def test_nothing_of_the_model_changes_and_the_person_does(model, faces):
    before = state_of(model.pipe)
    steps = []
    for step in model.fit_steps(faces[0], "annika", **SHORT):
        assert state_of(model.pipe) == before
        steps.append(step)
    assert [step.step for step in steps] == [0, 1, 2, 3, 4] and steps[0].max_train_steps == 4
    assert [step.is_last for step in steps] == [False] * 4 + [True]
    assert not torch.equal(steps[2].vectors, steps[3].vectors) and not torch.equal(steps[3].vectors, steps[4].vectors)
    radii = steps[4].coefficients.norm(dim=-1) / model.basis.median_radius
    assert (radii < 1.0001).all()
    [annika] = steps[4].identities
    assert annika.provenance["face_loss_steps"] == "2" and annika.provenance["max_train_steps"] == "2"
    again = model.fit(faces[0], "annika", **SHORT)
    assert torch.equal(again.vectors, annika.vectors)


def test_people_side_by_side_are_as_if_alone(model, faces):
    *_, together = model.fit_steps({"annika": faces[0], "tovik": faces[1]}, **SHORT)
    for i, own in enumerate(faces):
        *_, alone = model.fit_steps(own, "annika", **SHORT)
        assert torch.allclose(alone.vectors[0], together.vectors[i], atol=2e-4)
    assert not torch.allclose(together.vectors[0], together.vectors[1], atol=1e-2)


@pytest.mark.parametrize("where", ["unet", "vae", "text_encoder"])
def test_everything_is_as_before_a_failure(model, faces, monkeypatch, where):
    before = state_of(model.pipe)
    steps = model.fit_steps(faces[0], "annika", **SHORT)
    for _ in range(3):
        next(steps)

    def fail(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model.pipe.vae if where == "vae" else getattr(model.pipe, where), "forward", fail)
        if where == "vae":
            patch.setattr(model.pipe.vae, "decode", fail)
        with pytest.raises(KeyboardInterrupt):
            next(steps)
    assert state_of(model.pipe) == before


def test_the_first_steps_are_those_of_a_fit_without_it(model, faces):
    with_it = [step.vectors for step in model.fit_steps(faces[0], "annika", **SHORT)]
    without = [step.vectors for step in model.fit_steps(faces[0], "annika", **SHORT | {"face_loss": False})]
    assert len(without) == 3 and all(torch.equal(a, b) for a, b in zip(without, with_it, strict=False))
    no_steps = list(model.fit_steps(faces[0], "annika", **SHORT | {"max_train_steps": 0}))
    assert len(no_steps) == 1 and no_steps[0].provenance[0]["face_loss_steps"] == "0"


def test_a_clock_that_ends_the_steps_before_it_leaves_it_its_own(model, faces, monkeypatch):
    clock = chain([0.0], repeat(60.0))  # more than half of the 100 seconds, at the first step
    monkeypatch.setattr("celeb_basis.fit.loop.time", SimpleNamespace(monotonic=lambda: next(clock)))
    steps = list(model.fit_steps(faces[0], "annika", **SHORT, max_train_minutes=100 / 60))
    assert [step.step for step in steps] == [0, 1, 2, 3], "one step, and the two with the face loss"
    assert [step.is_last for step in steps] == [False] * 3 + [True]
    assert not torch.equal(steps[1].vectors, steps[2].vectors)


def test_steps_are_as_many_as_the_card_says_and_no_more_than_were_asked_for(model, faces, monkeypatch):
    def planned(steps=None, face_loss=True):
        fit = model.fit_steps(faces[0], "annika", max_train_steps=steps, face_loss=face_loss)
        return next(fit).max_train_steps - (model.default_train_steps if steps is None else steps)

    own = FaceLoss.max_train_steps
    assert [planned(steps) for steps in (1, 10, 500, None)] == [1, 10, own, own] and planned(None, None) == 0
    card = replace(model.card, face_loss_steps=own + 7)
    monkeypatch.setattr("celeb_basis.fit.face_loss.model_card", lambda pipe: card)
    assert [planned(steps) for steps in (1, 500, None)] == [1, own + 7, own + 7]
    assert planned(None, None) == own + 7 and planned(3, None) == 3 and planned(None, False) == 0


def test_the_part_around_a_face_is_what_the_whole_picture_shows_there(model, faces):
    """Also of a face that reaches out of the picture; the miniature's decoder sees a few pixels around each."""
    denoiser, picture = get_denoiser(model.pipe), miniature.person(3000, 128)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
    latents = denoiser.encode(pixels)
    with torch.no_grad():
        whole = denoiser.decode(latents)[0]
        for square in ((40.0, 36.0, 48.0, 0.0), (50.0, 30.0, 40.0, 12.0), (-20.0, -8.0, 60.0, 0.0)):
            part, moved = decode_around(denoiser, latents[0], square)
            assert part.shape[1] <= 128 and (part.numel() < whole.numel() or square[0] < 0)
            a, b = cut_squares([whole], [square], 32), cut_squares([part], [moved], 32)
            assert (a - b).abs().mean() < 0.02 and (a - b.roll(2, -1)).abs().mean() > 0.04


def colours(image):
    """A feature of unit length: the colours of a picture's quarters."""
    small = torch.tensor(list(image.convert("RGB").resize((2, 2)).tobytes()), dtype=torch.float32)
    return torch.nn.functional.normalize(small + 1, dim=0)


class Blind:
    """Finds one face in everything, and has no network."""

    name = "blind"

    def read(self, images):
        return [[Face(image, (0, 0, *image.size), colours(image), self.name)] for image in images]


class Seeing(Blind):
    """Has a network, of other features, and finds its one face in the middle."""

    network = FaceNetwork(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten()), 8)

    def read(self, images):
        return [[replace(face, square=(4.0, 4.0, 8.0, 0.0))] for [face] in super().read(images)]


class Lost(Seeing):
    """Finds no face in what is drawn."""

    def read(self, images):
        return [[] for _ in images]


def test_where_no_face_is_drawn_nobody_moves(caplog):
    pipe = make_pipeline("sd1")
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    faces = Blind().read([miniature.person(3000, 16)])
    steps = [
        step.vectors
        for step in fit_steps(
            pipe, basis, faces, ["<annika>"], Recipe(**SHORT, scenes=("a photo of {}",)), face_reader=Lost()
        )
    ]
    assert torch.equal(steps[2], steps[4]) and not torch.equal(steps[1], steps[2])
    assert "no face was found in what the model draws" in caplog.text


def test_a_tiny_autoencoder_in_the_cache_decodes_for_the_gradient(tiny_in_cache, monkeypatch, caplog):
    pipe = make_pipeline("sd1")
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    faces, before = Seeing().read([miniature.person(3000, 16)]), state_of(pipe)

    def last():
        recipe = Recipe(**SHORT, scenes=("a photo of {}",))
        *_, step = fit_steps(pipe, basis, faces, ["<annika>"], recipe, face_reader=Seeing())
        return step.vectors

    with caplog.at_level("INFO", logger="celeb_basis"):
        tiny = last()
    assert state_of(pipe) == before and "madebyollin/taesd" in caplog.text
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "nowhere")
    assert not torch.equal(last(), tiny)


def test_who_cannot_have_it_is_told_in_one_line(model, faces):
    pipe = make_pipeline("sd1")
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    blind = Model.from_pipeline(pipe, basis=basis, face_reader=Blind())
    photo = miniature.person(3000, 64)
    for wrong, error, says in (
        (lambda: blind.fit(photo, "a", **SHORT), ModelError, "blind has no network with gradients"),
        (lambda: model.fit(faces[0], "a", method="paper", **SHORT), IdentityError, "paper has no face loss"),
        (lambda: blind.fit(faces[0], "a", **SHORT), IdentityError, "compares faces by blind.* miniature-fitting"),
        (lambda: list(fit_steps(pipe, basis, faces, ["<a>", "<b>"], Recipe(**SHORT))), IdentityError, "give it"),
        (lambda: Recipe(scenes=("a photo of nobody",)), IdentityError, "scenes must be"),
        (lambda: cb.ModelCard(face_loss_steps=True), ModelError, "must be a whole number"),
        (lambda: cb.ModelCard(scenes=("{} {}",)), ModelError, "scenes must be"),
    ):
        with pytest.raises(error, match=says):
            wrong()


def test_no_prompt_of_it_is_one_of_evaluations():
    evaluated = {text for protocol in PROTOCOLS.values() for texts in protocol.prompts.values() for text in texts}
    evaluated |= {re.sub(r"\{\d\}", "{}", text) for texts in COMPARED.values() for text in texts}
    drawn = {*SCENES, *(scene for name in ("miniature", "portraits") for scene in cb.Model.load(name).card.scenes)}
    assert not drawn & evaluated and len(drawn) >= 2 * 12 and len(drawn) < MAX_TEMPLATES
    without_company = {re.sub(r"\{\} (?:on the left |on the right )?and \{\}", "{}", text) for text in evaluated}
    assert not drawn & without_company


def test_the_readers_network_is_whom_it_names():
    assert fitting_reader().network.module is fitting_reader()._recogniser

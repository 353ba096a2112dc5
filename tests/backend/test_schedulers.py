"""Samplers by name: one stands in place of the model's own while a picture is drawn, and no longer."""

import numpy as np
import pytest
from conftest import add_safety_checker, make_pipeline, state_of

from celeb_basis import Identity, ModelCard, PromptError
from celeb_basis.backend.card import SAMPLERS
from celeb_basis.evaluation.image_cache import ImageCache, ImageRequest
from celeb_basis.generate import generate


@pytest.fixture
def ada(basis):
    return Identity.sample(basis, "<ada>")


def test_each_draws_its_own_picture_and_leaves_the_model_as_it_was(pipe, ada):
    before = state_of(pipe)
    pictures = {
        name: generate(pipe, "a photo of <ada>", [ada], num_inference_steps=3, sampler=name)[0].tobytes()
        for name in (None, *SAMPLERS)
    }
    assert state_of(pipe) == before
    own = type(pipe.scheduler).__name__
    same = [name for name, where in SAMPLERS.items() if where.endswith(own)]
    assert all(pictures[name] == pictures[None] for name in same)
    assert len(set(pictures.values())) == len(SAMPLERS) + 1 - len(same)


def test_a_name_of_none_is_one_line(pipe, ada):
    with pytest.raises(PromptError, match=r"no sampler 'euler a': choose one of ddim, .*unipc"):
        generate(pipe, "a photo of <ada>", [ada], sampler="euler a")


def test_pictures_of_another_sampler_are_not_taken_for_these(pipe, ada, tmp_path):
    wanted = [ImageRequest("a photo of <ada>", 0)]
    first, other, again = (
        ImageCache(pipe, num_inference_steps=2, folder=tmp_path, sampler=sampler).draw(wanted, [ada])[0]
        for sampler in (None, "rbf", None)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert len(list(tmp_path.iterdir())) == 2


def test_kept_pictures_know_the_defaults_that_drew_them(pipe, ada, tmp_path, monkeypatch):
    wanted = [ImageRequest("a photo of <ada>", 0)]
    monkeypatch.setattr(pipe, "card", ModelCard(num_inference_steps=2), raising=False)
    ImageCache(pipe, folder=tmp_path).draw(wanted, [ada])
    ImageCache(pipe, num_inference_steps=2, guidance_scale=None, folder=tmp_path).draw(wanted, [ada])
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(pipe, "card", ModelCard(num_inference_steps=3), raising=False)
    ImageCache(pipe, folder=tmp_path).draw(wanted, [ada])
    assert len(list(tmp_path.iterdir())) == 2


def test_black_pictures_of_a_safety_checker_are_not_kept_for_a_model_without_it(tmp_path):
    pipe = make_pipeline("sd1")
    add_safety_checker(pipe, threshold=-2)
    wanted = [ImageRequest("a photo", 0)]
    [black] = ImageCache(pipe, num_inference_steps=2, folder=tmp_path).draw(wanted)
    pipe.safety_checker = None
    [drawn] = ImageCache(pipe, num_inference_steps=2, folder=tmp_path).draw(wanted)
    assert black.getbbox() is None and drawn.getbbox()

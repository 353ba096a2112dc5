"""Samplers by name: one stands in place of the model's own while a picture is drawn, and no longer."""

import numpy as np
import pytest
from conftest import state_of

from celeb_basis import Identity, PromptError
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

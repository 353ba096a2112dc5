"""Casting: who is taken, by how like they are to themselves and to others, and what is said where nobody is found."""

from dataclasses import replace

import pytest
import torch
from conftest import NAMES, make_pipeline
from test_known_names import Colours, faces, portraits

from celeb_basis import BasisError, CelebBasis, IdentityError, Model, ModelCard
from celeb_basis.casting import MAX_TRIES, nearest, sameness
from celeb_basis.known_names import draw_portraits, settings_of


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model, the faces of whose celebrities were drawn."""
    pipe, file = make_pipeline("sd1"), tmp_path_factory.mktemp("faces") / "basis.faces.safetensors"
    pipe.card = ModelCard(portraits=("a photo of {}", "the face of {}"))
    for drawn in draw_portraits(pipe, NAMES, Colours(), num_images=4, num_inference_steps=3, sampler="unipc"):
        drawn.save(file)
    return Model(pipe, basis=CelebBasis.from_pipeline(pipe, NAMES), faces=file, face_reader=Colours())


def last(auditions):
    *_, audition = auditions
    return audition


def test_pictures_of_one_name_and_nearest_names_are_as_counted_one_by_one():
    drawn = portraits(faces(names=5, pictures=3))
    for own, features in zip(sameness(drawn).tolist(), drawn.features, strict=True):
        pairs = [float(features[i] @ features[j]) for i in range(3) for j in range(i)]
        assert own == pytest.approx(sum(pairs) / 3, abs=1e-5)
    means = torch.nn.functional.normalize(drawn.features.sum(1), dim=-1)
    for i, most in enumerate(nearest(means).tolist()):
        assert most == pytest.approx(max(float(means[i] @ means[j]) for j in range(5) if j != i), abs=1e-5)


def test_the_cast_are_the_people_of_their_seeds_in_order(model):
    found = last(model.cast("extra", 2, unlike=1.0, seed=5))
    assert [each.identity.placeholder_token for each in found.cast] == ["<extra-1>", "<extra-2>"]
    seeds = [each.seed for each in found.cast]
    assert 5 <= seeds[0] < seeds[1] == 4 + found.tries
    for member in found.cast:
        assert torch.equal(member.identity.vectors, model.sample("extra", seed=member.seed).vectors)
        assert member.same >= found.least and member.like_celebrity <= 1 and member.celebrity in NAMES
    one, other = (each.feature for each in found.cast)
    assert found.cast[0].like_cast is None and found.cast[1].like_cast == pytest.approx(float(one @ other), abs=1e-5)
    assert sum(found.refused.values()) == found.tries - 2


def test_a_cast_that_is_not_found_ends_in_one_line(model):
    with pytest.raises(
        IdentityError, match=rf"0 of 1 people were found in {MAX_TRIES} tries \(.*too like a celeb"
    ) as no:
        last(model.cast("extra", 1, unlike=-1.0))
    assert no.value.argument == "unlike"


def test_pictures_are_drawn_as_the_celebrities_were(model):
    drawn = portraits(faces())
    assert settings_of(model.pipe, None).num_inference_steps == 8
    for draw in draw_portraits(model.pipe, NAMES[:1], Colours(), num_images=1, num_inference_steps=3, sampler="unipc"):
        assert settings_of(model.pipe, draw).num_inference_steps == 3
    assert settings_of(model.pipe, drawn).num_inference_steps == 8


def test_faces_of_another_reader_or_of_too_few_are_no_measure(model, tmp_path):
    for name, change, says in (("other", {"face_reader": "other"}, "read by other"), ("few", {}, "at least 10")):
        drawn = replace(
            portraits(faces(names=9 if name == "few" else 12), tuple(NAMES[: 9 if name == "few" else 12])),
            face_reader=Colours.name,
        )
        replace(drawn, **change).save(tmp_path / f"{name}.safetensors")
        with pytest.raises(BasisError, match=says):
            last(
                Model(
                    model.pipe, basis=model.basis, faces=tmp_path / f"{name}.safetensors", face_reader=Colours()
                ).cast("a", 1)
            )


def test_without_faces_nobody_is_cast(model):
    with pytest.raises(BasisError, match="no faces of its celebrities"):
        Model(model.pipe, basis=model.basis, face_reader=Colours()).cast("extra", 1)

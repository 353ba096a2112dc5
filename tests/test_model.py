"""Model: what belongs to a checkpoint is found once, and a photo may be given in any form."""

import logging
from dataclasses import replace

import pytest
import torch
from conftest import NAMES, make_pipeline
from PIL import Image

import celeb_basis as cb
from celeb_basis import BasisError, CelebBasis, IdentityError, Model, ModelError, PhotoError
from celeb_basis.backend.hub import cache_folder
from celeb_basis.model import basis_of_celebrities, model_of_identities, name_of_photos, resolve_basis


@pytest.fixture(scope="module")
def model():
    return Model.load("miniature", device="cpu")


@pytest.fixture
def few_names(monkeypatch):
    """The shipped names are those that the tiny vocabulary has as two tokens."""
    monkeypatch.setattr("celeb_basis.model.celebrity_names", lambda: NAMES)


def test_a_photo_is_a_file_a_picture_a_face_or_several_of_them(model, tmp_path):
    photo = cb.miniature.person(7)
    photo.save(tmp_path / "annika.png")
    [face] = model.find_faces(photo)
    quick = {"max_train_steps": 2, "num_train_images": 2}
    people = [
        model.fit(given, **quick)
        for given in (tmp_path / "annika.png", str(tmp_path / "annika.png"), [tmp_path / "annika.png"])
    ]
    people += [model.fit(given, "annika", **quick) for given in (photo, [photo], face, [face])]
    assert {person.placeholder_token for person in people} == {"<annika>"}
    assert all(person.vectors.equal(people[0].vectors) for person in people)
    with pytest.raises(PhotoError, match="at least one photo"):
        model.fit([], "annika")


@pytest.mark.parametrize(
    ("photos", "name"),
    [("a/Zoë Łuk.jpg", "zoe-luk"), (["my.jpg", "other.jpg"], "my"), (cb.miniature.person(7), "person")],
)
def test_who_is_not_named_is_called_like_the_file(photos, name):
    assert name_of_photos(photos) == name


def test_a_fit_shows_its_steps_and_people_may_be_learnt_together(model):
    photos = {"annika": cb.miniature.person(7), "tovik": cb.miniature.person(8)}
    steps = list(model.fit_steps(photos, max_train_steps=2, num_train_images=2))
    assert [step.step for step in steps] == [0, 1, 2] and steps[-1].is_last
    together = steps[-1].identities
    assert [person.placeholder_token for person in together] == ["<annika>", "<tovik>"]
    alone = model.fit(photos["tovik"], "tovik", max_train_steps=2, num_train_images=2)
    torch.testing.assert_close(alone.vectors, together[1].vectors, atol=1e-5, rtol=0)


def test_a_model_without_a_basis_gets_one_of_the_shipped_names_once(few_names, caplog):
    pipe = make_pipeline("sd1", seed=11)
    with caplog.at_level(logging.INFO, "celeb_basis"):
        made = Model.from_pipeline(pipe).basis
        [line] = [record.getMessage() for record in caplog.records]
        assert f"made one of the {len(NAMES)} shipped names" in line and str(cache_folder()) in line
        caplog.clear()
        found = Model.from_pipeline(pipe).basis
        assert not caplog.records  # read from the cache
    assert found.digest == made.digest == CelebBasis.from_pipeline(pipe, NAMES).digest


def test_another_model_or_another_list_gets_another_basis(few_names, monkeypatch):
    first = basis_of_celebrities(make_pipeline("sd1"))
    assert basis_of_celebrities(make_pipeline("sd1", seed=5)).digest != first.digest
    monkeypatch.setattr("celeb_basis.model.celebrity_names", lambda: NAMES[:10])
    assert basis_of_celebrities(make_pipeline("sd1")).digest != first.digest


def test_a_damaged_basis_in_the_cache_is_made_again(few_names):
    pipe = make_pipeline("sd1", seed=6)
    made = basis_of_celebrities(pipe)
    for file in (cache_folder() / "bases").iterdir():
        file.write_bytes(file.read_bytes()[:-7])
    assert basis_of_celebrities(pipe).digest == made.digest
    assert basis_of_celebrities(pipe).digest == made.digest  # and it is whole again


def test_a_cache_that_cannot_be_written_stops_nobody(few_names, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CELEB_BASIS_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.INFO, "celeb_basis"):
        assert len(basis_of_celebrities(make_pipeline("sd1")).names) == len(NAMES)
    assert "cannot be kept" in caplog.text


def test_what_belongs_to_a_model_is_known_without_its_weights(model):
    basis, instant_map = resolve_basis("miniature")
    assert basis.digest == model.basis.digest and instant_map.basis_digest == basis.digest
    assert resolve_basis("some/model") == (None, None)
    assert resolve_basis("miniature", basis)[1] is None  # a basis of one's own comes without the model's map


def test_a_basis_or_map_of_another_model_is_refused(model):
    with pytest.raises(BasisError, match="was made for"):
        Model.from_pipeline(make_pipeline("sd1"), basis=model.basis)
    smaller = CelebBasis.from_pipeline(model.pipe, model.basis.names[:40], 8)
    with pytest.raises(BasisError, match="another basis"):
        Model.from_pipeline(model.pipe, basis=smaller, instant_map=model.instant_map)


def test_steps_zero_need_a_map(model):
    without = Model.from_pipeline(model.pipe, basis=model.basis)
    with pytest.raises(IdentityError, match="would be the mean person") as refused:
        without.fit(cb.miniature.person(7), "annika", max_train_steps=0)
    assert refused.value.argument == "instant_map"


def test_a_made_up_person_is_the_same_for_the_same_seed(model):
    assert model.sample("eve", seed=3).vectors.equal(model.sample("<eve>", seed=3).vectors)
    assert not model.sample("eve", seed=3).vectors.equal(model.sample("eve", seed=4).vectors)


def test_an_image_says_how_it_was_made(model, tmp_path):
    eve = model.sample("eve", seed=3).scaled(model.basis, 0.8)
    [image] = model.generate("a photo of <eve>", [eve], seed=5, num_inference_steps=1)
    cb.save_image(image, tmp_path / "eve.png")
    with Image.open(tmp_path / "eve.png") as file:
        details = {key: file.text[key] for key in ("prompt", "seed", "model", "strength")}
    assert details == {"prompt": "a photo of <eve>", "seed": "5", "model": "miniature", "strength": "<eve>=0.8"}


def test_people_are_those_of_the_model_wherever_its_basis_was_made(model, tmp_path):
    elsewhere = replace(model.basis, model="somebody/else")
    elsewhere.save(tmp_path / "basis.safetensors")
    again = Model.from_pipeline(model.pipe, basis=tmp_path / "basis.safetensors")
    assert (
        again.sample("eve").model == again.fit(cb.miniature.person(7), "annika", max_train_steps=1).model == "miniature"
    )


def test_which_model_identities_were_made_for(model):
    assert model_of_identities([]) == "miniature" == model_of_identities([model.sample("eve")])
    width = (model.basis.encoder_dims[0],)
    others = [cb.Identity("<a>", torch.ones(2, *width), width, model=name) for name in ("some/model", "other/model")]
    with pytest.raises(ModelError, match="several models"):
        model_of_identities(others)
    with pytest.raises(ModelError, match="not on this machine"):
        model_of_identities(others[:1])

"""Files say which model their people were made for, and never where it lies on somebody's machine."""

import json

import pytest
from conftest import NAMES, make_pipeline
from PIL import Image

from celeb_basis import CelebBasis, Identity, Model, ModelError, save_image
from celeb_basis.backend.hub import CACHE
from celeb_basis.backend.known_models import find_model, remember_model, shared_name
from celeb_basis.limits import MAX_KNOWN_MODELS
from celeb_basis.model import model_of_identities


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "models.json"


@pytest.fixture
def folder(tmp_path):
    """A model in a private place."""
    pipe = make_pipeline("sd1")
    place = tmp_path / "home-of-jane" / "sd"
    pipe.save_pretrained(place)
    CelebBasis.from_pipeline(pipe, NAMES).save(tmp_path / "basis.safetensors")
    return place


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("miniature", "miniature"),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        ("/home/jane/models/sd15", "sd15"),
        ("/home/jane/model.safetensors", "model.safetensors"),
        ("~/sd15", "sd15"),
        ("./sd15/", "sd15"),
        ("../jane/sd15", "sd15"),
        ("C:\\Users\\jane\\sd15", "sd15"),
        ("\\\\server\\jane\\sd15.safetensors", "sd15.safetensors"),
        ("jane/models/sd15", "sd15"),
        ("sd15", "sd15"),
        ("", ""),
    ],
)
def test_a_place_is_named_by_its_last_part(name, shared):
    assert shared_name(name) == shared


def test_a_folder_that_looks_like_a_hub_id_is_a_place(tmp_path, monkeypatch):
    (tmp_path / "jane" / "sd").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert shared_name("jane/sd") == "sd"
    monkeypatch.chdir(tmp_path / "jane")
    assert shared_name(".") == "jane"


def test_no_file_holds_the_place_of_a_model_and_it_is_found_again(folder, tmp_path, monkeypatch):
    model = Model.load(folder, basis=tmp_path / "basis.safetensors", device="cpu")
    ada = model.sample("ada")
    made = CelebBasis.from_pipeline(model.pipe, NAMES)
    assert made.model == str(folder)
    Identity.sample(made, "<ada>").save(tmp_path / "ada.safetensors")
    made.save(tmp_path / "own.safetensors")
    [image] = model.generate("a photo of <ada>", [ada], num_inference_steps=1)
    image.save(tmp_path / "plain.png")
    save_image(image, tmp_path / "a.png")
    save_image(image, tmp_path / "b.png", model=str(folder))
    for name in ("ada.safetensors", "own.safetensors", "plain.png", "a.png", "b.png"):
        assert b"home-of-jane" not in (tmp_path / name).read_bytes(), name
    with Image.open(tmp_path / "b.png") as picture:
        assert picture.text["model"] == "sd"
    monkeypatch.chdir("/")
    again = Identity.load(tmp_path / "ada.safetensors")
    assert again.model == "sd" and model_of_identities([again]) == str(folder)


def test_a_model_that_was_moved_has_to_be_named(folder, tmp_path):
    model = Model.load(folder, basis=tmp_path / "basis.safetensors", device="cpu")
    Identity.sample(CelebBasis.from_pipeline(model.pipe, NAMES), "<ada>").save(tmp_path / "ada.safetensors")
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="sd is not on this machine, or was moved: name the model"):
        model_of_identities([Identity.load(tmp_path / "ada.safetensors")])


def test_models_of_one_name_or_with_the_same_text_encoders_are_told_apart(folder, tmp_path):
    other = tmp_path / "other" / "sd"
    other.parent.mkdir()
    folder.rename(other)
    make_pipeline("sd1", seed=1).save_pretrained(folder)
    for place, encoders in ((folder, "a" * 64), (other, "b" * 64)):
        remember_model(place, encoders)
    assert find_model("sd", "a" * 64) == str(folder) and find_model("sd", "b" * 64) == str(other)
    assert find_model("sdxl", "a" * 64) is None and find_model("sd", "c" * 64) is None
    assert find_model("miniature", "a" * 64) == "miniature"


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"aaaaaaaaaaaaaaaa sd": 3}', "\0" * 99])
def test_a_note_that_cannot_be_read_is_written_anew(content, folder, cache):
    cache.parent.mkdir()
    cache.write_text(content)
    assert find_model("sd", "a" * 64) is None
    remember_model(folder, "a" * 64)
    assert find_model("sd", "a" * 64) == str(folder)


def test_what_is_noted_is_bounded_and_no_more_than_a_hint(folder, cache):
    cache.parent.mkdir()
    cache.write_text(json.dumps({f"{i:016d} x": f"/nowhere/{i}" for i in range(2 * MAX_KNOWN_MODELS)}))
    remember_model(folder, "a" * 64)
    noted = json.loads(cache.read_text())
    assert len(noted) == MAX_KNOWN_MODELS and list(noted)[-1] == "a" * 16 + " sd"
    assert find_model("x", f"{2 * MAX_KNOWN_MODELS - 1:016d}") is None  # there is no model at that place


def test_a_cache_that_cannot_be_written_does_not_matter(folder, cache):
    cache.parent.write_text("no folder")
    remember_model(folder, "a" * 64)
    assert find_model("sd", "a" * 64) is None

"""Lines of the manifest, as a worker makes them: no Ray is needed for these."""

import fsspec
import pytest
import torch
from fits import fit_identities

from celeb_basis import CelebBasis, Identity, InstantMap, Recipe, open_photo
from celeb_basis.backend.card import ModelCard
from celeb_basis.faces.face import find_person
from celeb_basis.fleet import storage as storage
from celeb_basis.fleet.drawing import Drawing
from celeb_basis.fleet.fitting import Fitting
from celeb_basis.fleet.measuring import Measuring
from celeb_basis.fleet.table import Row
from celeb_basis.miniature import person

CARD = ModelCard.of("miniature")
BASIS, INSTANT = CelebBasis.load(CARD.basis), InstantMap.load(CARD.instant_map)
RECIPE = Recipe(max_train_steps=2, num_train_images=2, train_batch_size=1)


def fitting(out, recipe=RECIPE):
    return Fitting({"model": "miniature"}, str(out), BASIS, INSTANT, "celeb-basis", recipe, None, False)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photographs of three people, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for i, name in enumerate(("ada", "bo", "cy")):
        person(5100 + i, 128).save(folder / f"{name}.png")
    (folder / "bad.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def pipe():
    return fitting("").pipe


def lines(job, pipe, rows, before=()):
    """What the manifest says of rows; the model is loaded once for all tests."""
    job.__dict__["pipe"] = pipe
    return job.do([(row, dict(before).get(row.name)) for row in rows])


def rows_of(photos, *names, **more):
    return [Row(name, (f"{photos}/{name}.png",), **more) for name in names]


def test_people_are_those_of_a_fit_on_one_machine(photos, pipe, tmp_path):
    job = fitting(tmp_path)
    found = lines(job, pipe, rows_of(photos, "ada", "bad", "bo"))
    assert [line["name"] for line in found] == ["ada", "bad", "bo"]
    assert "is not a picture that can be read" in found[1]["error"] and "identity" not in found[1]
    faces = [find_person([open_photo(photos / f"{name}.png")], job.reader) for name in ("ada", "bo")]
    alone = fit_identities(pipe, BASIS, faces, ["<ada>", "<bo>"], RECIPE, instant_map=INSTANT)
    for line, identity in zip((found[0], found[2]), alone, strict=True):
        identity.save(tmp_path / "alone.safetensors")
        assert (tmp_path / line["identity"]).read_bytes() == (tmp_path / "alone.safetensors").read_bytes()
        assert line["figures"]["photos_used"] == 1 and line["error"] is None


def test_a_row_may_have_a_seed_and_steps_of_its_own(photos, pipe, tmp_path):
    rows = [*rows_of(photos, "ada", seed=5), *rows_of(photos, "bo", steps=0), *rows_of(photos, "cy")]
    lines(fitting(tmp_path), pipe, rows)
    found = [Identity.load(tmp_path / f"{name}.safetensors").provenance for name in ("ada", "bo", "cy")]
    assert [(own["seed"], own["steps"]) for own in found] == [("5", "2"), ("0", "0"), ("0", "2")]


def test_what_is_there_is_made_again_where_its_inputs_changed(photos, pipe, tmp_path):
    [row] = rows_of(photos, "ada")
    instant_map = Recipe(max_train_steps=0)
    [line] = lines(fitting(tmp_path, instant_map), pipe, [row])
    file, before = tmp_path / line["identity"], {"ada": line["inputs"]}
    content = file.read_bytes()
    assert lines(fitting(tmp_path, instant_map), pipe, [row], before) == [None]
    moved = tmp_path / "moved.png"
    moved.write_bytes((photos / "ada.png").read_bytes())
    assert lines(fitting(tmp_path, instant_map), pipe, [Row("ada", (str(moved),))], before) == [None]
    [again] = lines(fitting(tmp_path, Recipe(max_train_steps=0, seed=1)), pipe, [row], before)
    assert again["inputs"] != line["inputs"]
    file.unlink()
    [again] = lines(fitting(tmp_path, instant_map), pipe, [row], before)
    assert again["inputs"] == line["inputs"] and file.read_bytes() == content
    moved.write_bytes((photos / "bo.png").read_bytes())
    [again] = lines(fitting(tmp_path, instant_map), pipe, [Row("ada", (str(moved),))], before)
    assert again["inputs"] != line["inputs"] and file.read_bytes() != content


def test_a_folder_of_photos_is_one_person(photos, pipe, tmp_path):
    for name, files in {"ada": ["ada.png", "ada.png"], "nobody": []}.items():
        (tmp_path / name).mkdir()
        for i, file in enumerate(files):
            (tmp_path / name / f"{i}.png").write_bytes((photos / file).read_bytes())
    rows = [Row(name, (f"{tmp_path}/{name}",)) for name in ("ada", "nobody")]
    ada, nobody = lines(fitting(tmp_path, Recipe(max_train_steps=0)), pipe, rows)
    assert ada["figures"]["photos_used"] == 2
    assert nobody["error"] == f"{tmp_path}/nobody holds no photos: put JPEG or PNG files in it"


def test_files_may_be_anywhere_that_fsspec_reaches(photos, pipe, tmp_path):
    memory = "memory://fleet"
    for file, photo in {"ada/1.png": "ada.png", "bad.png": "bad.png"}.items():
        with storage.written(f"{memory}/in/{file}") as temporary:
            temporary.write_bytes((photos / photo).read_bytes())
    rows = [Row("ada", (f"{memory}/in/ada",)), Row("bad", (f"{memory}/in/bad.png",))]
    instant_map = Recipe(max_train_steps=0)
    found = lines(fitting(f"{memory}/out", instant_map), pipe, rows)
    assert found[0]["identity"] == "ada.safetensors" and found[1]["error"].startswith(f"{memory}/in/bad.png is not")
    lines(fitting(tmp_path, instant_map), pipe, rows_of(photos, "ada"))
    with fsspec.open(f"{memory}/out/ada.safetensors") as file:
        assert file.read() == (tmp_path / "ada.safetensors").read_bytes()
    assert lines(fitting(f"{memory}/out", instant_map), pipe, rows[:1], {"ada": found[0]["inputs"]}) == [None]


def test_fitted_people_are_drawn_and_measured(photos, pipe, tmp_path):
    rows = rows_of(photos, "ada", "bo")
    lines(fitting(tmp_path, Recipe(max_train_steps=0)), pipe, rows)
    fitted = [Row(row.name, row.photos, f"{tmp_path}/{row.name}.safetensors") for row in rows]
    missing = Row("cy", (f"{photos}/cy.png",), f"{tmp_path}/cy.safetensors")
    job = Drawing(
        {"model": "miniature"}, str(tmp_path / "pictures"), ["a photo of {}"], 2, 3, {"num_inference_steps": 2}
    )
    found = lines(job, pipe, [*fitted, missing])
    assert found[0]["pictures"] == ["ada/a-photo-of-ada-3.png", "ada/a-photo-of-ada-4.png"]
    assert all((tmp_path / "pictures" / file).exists() for line in found[:2] for file in line["pictures"])
    assert "there is no such file" in found[2]["error"]
    judged = Measuring(
        {"model": "miniature"},
        str(tmp_path),
        None,
        {"plain": ["a photo of {}"]},
        1,
        0,
        2,
        None,
        None,
        None,
        None,
        False,
    )
    found = lines(judged, pipe, [*fitted, missing])
    assert all(-1 <= line["figures"]["identity"] <= 1 and line["figures"]["n_images"] == 1 for line in found[:2])
    assert "there is no such file" in found[2]["error"]


def test_a_group_with_one_that_fails_is_done_one_by_one(photos, pipe, tmp_path):
    rows = rows_of(photos, "ada", "bo")
    lines(fitting(tmp_path, Recipe(max_train_steps=0)), pipe, rows)
    other = Identity.load(tmp_path / "bo.safetensors")
    wide = torch.cat([other.vectors] * 60)  # more vectors than a prompt has room for
    Identity("<bo>", wide, other.encoder_dims, other.fingerprint).save(tmp_path / "bo.safetensors")
    fitted = [Row(row.name, (), f"{tmp_path}/{row.name}.safetensors") for row in rows]
    job = Drawing({"model": "miniature"}, str(tmp_path), ["a photo of {}"], 1, 0, {"num_inference_steps": 2})
    ada, bo = lines(job, pipe, fitted)
    assert ada["error"] is None and ada["pictures"] and bo["error"] and "pictures" not in bo

"""Lines of the manifest, as a worker makes them: no Ray is needed for these."""

import hashlib

import fsspec
import pytest
import torch
from fits import fit_identities
from PIL import Image

from celeb_basis import CelebBasis, Identity, InstantMap, Model, Recipe, open_photo
from celeb_basis.backend.card import ModelCard
from celeb_basis.backend.load import load_pipeline
from celeb_basis.evaluation.protocols import Protocol
from celeb_basis.faces.face import find_person
from celeb_basis.fleet import storage
from celeb_basis.fleet.jobs import EvaluateJob, FitJob, GenerateJob
from celeb_basis.fleet.manifest import Manifest
from celeb_basis.fleet.table import Row
from celeb_basis.miniature import person

CARD = ModelCard.of("miniature")
BASIS, INSTANT_MAP = CelebBasis.load(CARD.basis), InstantMap.load(CARD.instant_map)
RECIPE = Recipe(max_train_steps=2, num_train_images=2, train_batch_size=1)


MINIATURE = {"model": "miniature"}


def fitting(out, recipe=RECIPE):
    return FitJob(MINIATURE, BASIS, INSTANT_MAP, None, str(out), "celeb-basis", recipe, False, False)


def generating(out, *prompts, images=1, seed=0):
    return GenerateJob(MINIATURE, None, None, None, str(out), prompts, images, seed, {"num_inference_steps": 2})


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photographs of three people, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for i, name in enumerate(("ada", "bo", "cy")):
        person(5100 + i, 128).save(folder / f"{name}.png")
    (folder / "bad.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def model():
    return fitting("").model


def lines(job, model, rows, before=()):
    """What the manifest says of rows; the model is loaded once for all tests."""
    job.__dict__["model"] = model
    return job.process([(row, dict(before).get(row.name)) for row in rows])


def rows_of(photos, *names, **more):
    return [Row(name, (f"{photos}/{name}.png",), **more) for name in names]


def test_people_are_those_of_a_fit_on_one_machine(photos, model, tmp_path):
    job = fitting(tmp_path)
    found = lines(job, model, rows_of(photos, "ada", "bad", "bo"))
    assert [line["name"] for line in found] == ["ada", "bad", "bo"]
    assert "is not a picture that can be read" in found[1]["error"] and "identity" not in found[1]
    faces = [find_person([open_photo(photos / f"{name}.png")], job.model.face_reader) for name in ("ada", "bo")]
    alone = fit_identities(model.pipe, BASIS, faces, ["<ada>", "<bo>"], RECIPE, instant_map=INSTANT_MAP)
    for line, identity in zip((found[0], found[2]), alone, strict=True):
        identity.save(tmp_path / "alone.safetensors")
        assert (tmp_path / line["identity"]).read_bytes() == (tmp_path / "alone.safetensors").read_bytes()
        assert line["figures"]["photos_used"] == 1 and line["error"] is None


def test_a_row_may_have_a_seed_and_steps_of_its_own(photos, model, tmp_path):
    rows = [*rows_of(photos, "ada", seed=5), *rows_of(photos, "bo", steps=0), *rows_of(photos, "cy")]
    lines(fitting(tmp_path), model, rows)
    found = [Identity.load(tmp_path / f"{name}.safetensors").provenance for name in ("ada", "bo", "cy")]
    assert [(own["seed"], own["steps"]) for own in found] == [("5", "2"), ("0", "0"), ("0", "2")]


def test_what_is_there_is_made_again_where_its_inputs_changed(photos, model, tmp_path):
    [row] = rows_of(photos, "ada")
    instant = Recipe(max_train_steps=0)
    [line] = lines(fitting(tmp_path, instant), model, [row])
    file, before = tmp_path / line["identity"], {"ada": line["inputs"]}
    content = file.read_bytes()
    assert lines(fitting(tmp_path, instant), model, [row], before) == [None]
    moved = tmp_path / "moved.png"
    moved.write_bytes((photos / "ada.png").read_bytes())
    assert lines(fitting(tmp_path, instant), model, [Row("ada", (str(moved),))], before) == [None]
    [again] = lines(fitting(tmp_path, Recipe(max_train_steps=0, seed=1)), model, [row], before)
    assert again["inputs"] != line["inputs"]
    file.unlink()
    [again] = lines(fitting(tmp_path, instant), model, [row], before)
    assert again["inputs"] == line["inputs"] and file.read_bytes() == content
    moved.write_bytes((photos / "bo.png").read_bytes())
    [again] = lines(fitting(tmp_path, instant), model, [Row("ada", (str(moved),))], before)
    assert again["inputs"] != line["inputs"] and file.read_bytes() != content


def test_a_folder_of_photos_is_one_person(photos, model, tmp_path):
    for name, files in {"ada": ["ada.png", "ada.png"], "nobody": []}.items():
        (tmp_path / name).mkdir()
        for i, file in enumerate(files):
            (tmp_path / name / f"{i}.png").write_bytes((photos / file).read_bytes())
    rows = [Row(name, (f"{tmp_path}/{name}",)) for name in ("ada", "nobody")]
    ada, nobody = lines(fitting(tmp_path, Recipe(max_train_steps=0)), model, rows)
    assert ada["figures"]["photos_used"] == 2
    assert nobody["error"] == f"{tmp_path}/nobody holds no photos: put JPEG or PNG files in it"


def test_files_may_be_anywhere_that_fsspec_reaches(photos, model, tmp_path):
    memory = "memory://fleet"
    for file, photo in {"ada/1.png": "ada.png", "bad.png": "bad.png"}.items():
        with storage.written(f"{memory}/in/{file}") as temporary:
            temporary.write_bytes((photos / photo).read_bytes())
    rows = [Row("ada", (f"{memory}/in/ada",)), Row("bad", (f"{memory}/in/bad.png",))]
    instant = Recipe(max_train_steps=0)
    found = lines(fitting(f"{memory}/out", instant), model, rows)
    assert found[0]["identity"] == "ada.safetensors" and found[1]["error"].startswith(f"{memory}/in/bad.png is not")
    lines(fitting(tmp_path, instant), model, rows_of(photos, "ada"))
    with fsspec.open(f"{memory}/out/ada.safetensors") as file:
        assert file.read() == (tmp_path / "ada.safetensors").read_bytes()
    assert lines(fitting(f"{memory}/out", instant), model, rows[:1], {"ada": found[0]["inputs"]}) == [None]


def test_fitted_people_are_drawn_and_measured(photos, model, tmp_path):
    rows = rows_of(photos, "ada", "bo")
    lines(fitting(tmp_path, Recipe(max_train_steps=0)), model, rows)
    fitted = [Row(row.name, row.photos, f"{tmp_path}/{row.name}.safetensors") for row in rows]
    missing = Row("cy", (f"{photos}/cy.png",), f"{tmp_path}/cy.safetensors")
    job = generating(tmp_path / "pictures", "a photo of {}", images=2, seed=3)
    found = lines(job, model, [*fitted, missing])
    assert found[0]["pictures"] == ["ada/a-photo-of-ada-3.png", "ada/a-photo-of-ada-4.png"]
    assert all((tmp_path / "pictures" / file).exists() for line in found[:2] for file in line["pictures"])
    assert "there is no such file" in found[2]["error"]
    plain = Protocol({"plain": ("a photo of {}",)})
    judged = EvaluateJob(
        MINIATURE, None, None, None, str(tmp_path), plain, 1, 0, 2, None, None, None, None, None, False
    )  # fmt: skip
    found = lines(judged, model, [*fitted, missing])
    assert all(-1 <= line["figures"]["identity"] <= 1 and line["figures"]["n_images"] == 1 for line in found[:2])
    assert "there is no such file" in found[2]["error"]


def test_a_group_with_one_that_fails_is_done_one_by_one(photos, model, tmp_path):
    rows = rows_of(photos, "ada", "bo")
    lines(fitting(tmp_path, Recipe(max_train_steps=0)), model, rows)
    other = Identity.load(tmp_path / "bo.safetensors")
    wide = torch.cat([other.vectors] * 60)  # more vectors than a prompt has room for
    Identity("<bo>", wide, other.encoder_dims, other.fingerprint).save(tmp_path / "bo.safetensors")
    fitted = [Row(row.name, (), f"{tmp_path}/{row.name}.safetensors") for row in rows]
    ada, bo = lines(generating(tmp_path, "a photo of {}"), model, fitted)
    assert ada["error"] is None and ada["pictures"] and bo["error"] and "pictures" not in bo


def test_photos_that_cannot_be_used_are_lines_also_where_nobody_else_is_in_the_batch(photos, model, tmp_path):
    Image.new("RGB", (128, 128)).save(tmp_path / "nobody.png")
    rows = [Row("nobody", (f"{tmp_path}/nobody.png",)), *rows_of(photos, "bad"), *rows_of(photos, "nowhere", seed=1)]
    found = lines(fitting(tmp_path / "out"), model, rows)
    assert "no face found" in found[0]["error"] and "is not a picture that can be read" in found[1]["error"]
    assert found[2]["error"] == f"{photos}/nowhere.png: there is no such file"
    assert not (tmp_path / "out").exists()


class Stumbling(FitJob):
    """Cannot fit bo, for a reason that nobody foresaw."""

    def work(self, rows, contents):
        if any(row.name == "bo" for row in rows):
            raise ZeroDivisionError("division by zero")
        return super().work(rows, contents)


def test_what_nobody_foresaw_is_the_line_of_one_person(photos, model, tmp_path):
    job = Stumbling(
        MINIATURE, BASIS, INSTANT_MAP, None, str(tmp_path), "celeb-basis", Recipe(max_train_steps=0), False, False
    )
    ada, bo, cy = lines(job, model, rows_of(photos, "ada", "bo", "cy"))
    assert (ada["error"], bo["error"], cy["error"]) == (None, "ZeroDivisionError: division by zero", None)


def test_a_file_that_cannot_be_written_is_the_line_of_one_person(photos, model, tmp_path):
    (tmp_path / "bo.safetensors").mkdir()
    ada, bo = lines(fitting(tmp_path, Recipe(max_train_steps=0)), model, rows_of(photos, "ada", "bo"))
    assert ada["error"] is None and ada["inputs"] and (tmp_path / "ada.safetensors").is_file()
    assert bo["error"].startswith(f"cannot write {tmp_path}/bo.safetensors: ") and "inputs" not in bo


def test_one_person_has_a_bearable_number_of_photos(photos, model, tmp_path):
    many = tmp_path / "many"
    many.mkdir()
    for i in range(101):
        (many / f"{i}.jpg").touch()
    listed = Row("listed", tuple(f"{many}/{i}.jpg" for i in range(101)))
    for row in (Row("ada", (str(many),)), listed):
        [line] = lines(fitting(tmp_path), model, [row])
        assert line["error"] == f"101 photos of one person, {many}/0.jpg among them: choose 100 at most"
    for i in range(10_000):
        (many / f"{i}.txt").touch()
    [line] = lines(fitting(tmp_path), model, [Row("ada", (f"{many}/..",))])
    assert line["error"] == f"{many}/.. holds more than 10,000 files and folders: name a smaller one"


def test_every_picture_has_a_file_of_its_own(photos, model, tmp_path):
    identity = Identity.sample(BASIS, "<ada>")
    identity.save(tmp_path / "ada.safetensors")
    long = "a" * 58
    job = generating(tmp_path / "out", "{} in the snow", "{} on the beach", "{} in the snow", images=2)
    found = lines(job, model, [Row(name, (), f"{tmp_path}/ada.safetensors") for name in (long, "manifest-parts")])
    assert found[0]["pictures"] == [
        f"{long}/{long}{end}.png" for end in ("-i-0", "-i-1", "-o-0", "-o-1", "-i-2-0", "-i-2-1")
    ]
    assert found[1]["pictures"][0] == "manifest-parts/manifest-parts-in-the-snow-0.png"
    for line in found:
        assert line["error"] is None
        prompts = [Image.open(tmp_path / "out" / file).info["prompt"] for file in line["pictures"]]
        places = ("in the snow", "on the beach", "in the snow")
        assert prompts == [f"<{line['name']}> {where}" for where in places for _ in range(2)]
    Manifest(str(tmp_path / "out")).close()
    assert (tmp_path / "out" / found[1]["pictures"][0]).exists()


def test_a_model_without_a_basis_gets_one_of_the_shipped_names(photos, tmp_path, monkeypatch):
    names = list(BASIS.names)  # of the shipped ones the miniature knows two
    monkeypatch.setattr("celeb_basis.model.celebrity_names", lambda: names)
    monkeypatch.setattr("celeb_basis.fleet.jobs.celebrity_names", lambda: names)
    monkeypatch.setenv("CELEB_BASIS_CACHE", str(tmp_path / "cache"))
    job = FitJob(MINIATURE, None, None, None, str(tmp_path), "celeb-basis", RECIPE, False, False)
    bare = Model(load_pipeline())
    ada, bo = lines(job, bare, [*rows_of(photos, "ada"), *rows_of(photos, "bo", steps=0)])
    assert ada["error"] is None and "give an instant map" in bo["error"]
    identity = Identity.load(tmp_path / "ada.safetensors")
    assert identity.provenance["basis_digest"] == CelebBasis.from_pipeline(bare.pipe, names).digest
    # Another machine's basis may differ in the last bit: what counts are the names.
    assert job.settings["basis"] == hashlib.sha256("\n".join(names).encode()).hexdigest()

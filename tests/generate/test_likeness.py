"""How alike the people in pictures are to their photos, and pictures that are drawn again."""

import shutil
from itertools import permutations
from pathlib import Path

import pytest
import torch
from called import answer, complaint
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from celeb_basis import Face, Identity, IdentityError, Model, PromptError, miniature
from celeb_basis.faces.likeness import likeness
from celeb_basis.image_files import details_of, how_drawn

STEPS = ("--steps", 4)


class Colours:
    """A reader to whom each column of a picture is a face, and its colour the feature."""

    name = "colours"

    def read(self, images):
        return [[self._face(image, i) for i in range(image.width) if max(image.getpixel((i, 0)))] for image in images]

    def _face(self, image, column):
        colour = torch.tensor(image.getpixel((column, 0))).float()
        return Face(image, (column, 0, column + 1, 1), colour / colour.norm(), self.name)


def columns(*colours):
    image = Image.new("RGB", (len(colours), 1))
    image.putdata(colours)
    return image


RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


@pytest.mark.parametrize("order", list(permutations((RED, GREEN, (60, 0, 190)))))
def test_a_face_is_the_one_person_whom_it_is_most_like(order):
    people = {"<red>": torch.tensor([1.0, 0, 0]), "<blue>": torch.tensor([0.0, 0, 1])}
    found = likeness(columns(*order), people, Colours())
    assert found == {"<red>": pytest.approx(1), "<blue>": pytest.approx(190 / (60**2 + 190**2) ** 0.5)}
    [alone] = [name for name, alike in likeness(columns((60, 0, 190)), people, Colours()).items() if alike is None]
    assert alone == "<red>"
    assert likeness(columns((0, 0, 0)), people, Colours()) == {"<red>": None, "<blue>": None}


@pytest.fixture(scope="module")
def annika(tmp_path_factory):
    """A folder with a photo, and the person fitted from it with the face feature kept."""
    folder = tmp_path_factory.mktemp("annika")
    miniature.person(7).save(folder / "annika.png")
    model = Model.load()
    [face] = model.find_faces(folder / "annika.png")
    fitted = model.fit(face, "annika", max_train_steps=0)
    assert fitted.feature is None
    fitted.save(folder / "plain.safetensors")
    fitted.with_feature(face.feature, face.face_reader).save(folder / "annika.safetensors")
    torch.testing.assert_close(Identity.load(folder / "annika.safetensors").feature, face.feature)
    return folder


@pytest.fixture
def here(annika, tmp_path, monkeypatch):
    for file in annika.iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CELEB_BASIS_PEOPLE", str(tmp_path / "library"))
    return tmp_path


def test_the_feature_is_kept_when_that_is_asked_for_alone(here, capsys):
    fit = ("fit", "annika.png", "--steps", 0, "-o", "new.safetensors")
    answer(capsys, *fit)
    assert Identity.load("new.safetensors").feature is None
    report = answer(capsys, *fit, "--keep-feature")
    kept = Identity.load("new.safetensors")
    torch.testing.assert_close(kept.feature, Identity.load("annika.safetensors").feature)
    [image] = Model.load().generate("a photo of <annika>", [kept])
    assert Model.load().likeness(image, {"annika": "annika.png"})["annika"] == pytest.approx(
        report["likeness"], abs=2e-3
    )
    assert answer(capsys, "info", "new.safetensors")["face_feature"] == "kept, 64 numbers: biometric data"
    other = Identity.load("plain.safetensors")
    assert kept.digest == other.digest and kept.blend(other, 0.5, "<bodil>").feature is None
    answer(capsys, "people", "add", "new.safetensors", "--name", "tovik")
    assert torch.equal(Identity.load(answer(capsys, "people", "show", "tovik")["file"]).feature, kept.feature)


@pytest.mark.parametrize("damage", ["x", "AAAA", "AAAAAAAA", "A" * 100_000, "é"])
def test_a_feature_that_is_none_is_refused(here, damage, capsys):
    identity = Identity.load("annika.safetensors")
    identity.provenance["face_feature"] = damage
    with pytest.raises(IdentityError, match="keeps something that is no face feature"):
        _ = identity.feature
    identity.save("wrong.safetensors")
    assert "no face feature" in complaint(capsys, "generate", "<annika>", "--identity", "wrong.safetensors")


def test_the_best_pictures_are_those_most_alike(here, capsys):
    draw = ("generate", "a photo of <annika>", "--identity", "annika", "-n", 6, *STEPS)
    every = answer(capsys, *draw, "-o", "all")["likeness"]
    best = answer(capsys, *draw, "--best", 2, "-o", "best")
    scores = sorted((alike["<annika>"] or -1 for alike in every.values()), reverse=True)
    assert [best["likeness"][file]["<annika>"] for file in best["pictures"]] == pytest.approx(scores[:2], abs=1e-3)
    for file in best["pictures"]:
        alike = Model.load().likeness(Image.open(file), {"<annika>": "annika.png"})["<annika>"]
        assert details_of(Image.open(file))["likeness"] == f"<annika>={best['likeness'][file]['<annika>']:.3f}"
        assert alike == pytest.approx(best["likeness"][file]["<annika>"], abs=2e-3)
    plain = ("generate", "a photo of <annika>", "--identity", "plain.safetensors", *STEPS)
    assert "likeness" not in answer(capsys, *plain, "-o", "plain")
    with_photo = answer(capsys, *plain, "--photo", "annika.png", "-o", "photo")
    assert with_photo["likeness"][with_photo["pictures"][0]]["<annika>"] == pytest.approx(
        every[answer(capsys, *draw, "-o", "all")["pictures"][0]]["<annika>"], abs=1e-2
    )
    Path("photos").mkdir()
    shutil.copy("annika.png", "photos")
    of_folder = answer(capsys, *plain, "--photo", "photos", "-o", "folder")["likeness"]
    assert list(of_folder.values()) == list(with_photo["likeness"].values())
    assert "draw more with -n" in complaint(capsys, *draw, "--best", 7)
    assert "--best chooses by likeness" in complaint(capsys, *plain, "-n", 2, "--best", 1)
    assert "--photo names <bodil>" in complaint(capsys, *plain, "--photo", "bodil=annika.png")
    assert "say whose it is" in complaint(capsys, "generate", "a photo", "--photo", "annika.png")


def same(one, other):
    pixels = [torch.tensor(list(Image.open(file).convert("RGB").tobytes())) for file in (one, other)]
    return (pixels[0] - pixels[1]).abs().max() <= 2  # batches of another size round otherwise


def test_a_picture_is_drawn_again_with_what_is_changed(here, capsys):
    people = ("--identity", "annika", "--identity", "tovik=plain.safetensors")
    prompt = "<annika> on the right and <tovik>"
    more = ("--negative-prompt", "rain", "--guidance", 3.5, "--sampler", "euler", "--strength", "annika=.7", "--apart")
    [first] = answer(capsys, "generate", prompt, *people, *STEPS, "--seed", 9, *more, "-o", "first.png")["pictures"]
    answer(capsys, "people", "add", "plain.safetensors", "--name", "tovik")
    [again] = answer(capsys, "generate", "--like", first, "-o", "again.png")["pictures"]
    assert same(first, again) and details_of(Image.open(again)) == details_of(Image.open(first))
    [other] = answer(capsys, "generate", "--like", first, "--seed", 10, "-o", "other.png")["pictures"]
    assert not same(first, other)
    changed = {key for key, value in details_of(Image.open(other)).items() if Image.open(first).info[key] != value}
    assert changed - {"likeness"} == {"seed"}
    [alone] = answer(capsys, "generate", "<annika> in the snow", "--like", first, "-o", "alone.png")["pictures"]
    said = details_of(Image.open(alone))
    assert (said["prompt"], said["strength"]) == ("<annika> in the snow", "<annika>=0.7")
    assert "<tovik>" not in said["identities"]
    answer(capsys, "people", "remove", "tovik")
    assert "nobody is called tovik" in complaint(capsys, "generate", "--like", first)
    answer(capsys, "sample", "--name", "tovik")
    assert f"this is not the <tovik> in {first}" in complaint(capsys, "generate", "--like", first)
    answer(capsys, "generate", "--like", first, "--identity", "tovik", "-o", "another.png")
    assert "leave out --prompts" in complaint(capsys, "generate", "--like", first, "--prompts", "prompts.txt")


def test_a_picture_with_nobody_in_it_finds_its_model(here, capsys):
    [first] = answer(capsys, "generate", "tom hanks", *STEPS, "-o", "first.png")["pictures"]
    assert same(first, *answer(capsys, "generate", "--like", first, "-o", "again.png")["pictures"])
    image = Image.open(first)
    image.info["model"] = "owner/model"
    save(image, "stranger.png")
    assert "owner/model is not on this machine: name the model" in complaint(
        capsys, "generate", "--like", "stranger.png"
    )


def save(image, path, **changed):
    info = PngInfo()
    for key, value in (details_of(image) | changed).items():
        info.add_text(key, value)
    image.save(path, pnginfo=info)


WRONG = {
    "seed": ["", "-1", "1e9", "9" * 5000, "٣"],
    "steps": ["many", "2.5"],
    "size": ["128", "128x128x128", "x"],
    "guidance": ["strong"],
    "regions": ["[", "[1]", '{"<ada>": 1}', '{"<ada>": [0, 0, 9, 1]}', '{"<ada>": [0, 0, NaN, 1]}', "[" * 10_000],
    "strength": ["annika=.7", "<annika>=x", "<annika>"],
    "identities": ["<annika>", "<../a>=00"],
    "prompt": ["x" * 30_000],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_what_a_picture_says_is_not_trusted(key, value, tmp_path):
    image = Image.new("RGB", (8, 8))
    sound = {"prompt": "a photo", "seed": "1", "size": "128x128", "model": "miniature"}
    save(image, tmp_path / "sound.png", **sound)
    assert how_drawn(tmp_path / "sound.png").width == 128
    image.info |= sound | {key: value}
    save(image, tmp_path / "wrong.png")
    with pytest.raises(PromptError, match="does not say how it was drawn"):
        how_drawn(tmp_path / "wrong.png")


def test_a_picture_of_another_program_says_so(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png")
    assert "does not say how it was drawn" in complaint(capsys, "generate", "--like", tmp_path / "other.png")

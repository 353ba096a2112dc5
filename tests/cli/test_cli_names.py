"""What the commands say of names and of other programs, and the option --strength."""

import pytest
import torch
from called import answer, complaint
from conftest import NAMES, make_pipeline
from PIL import Image
from safetensors.torch import save_file

from celeb_basis import CelebBasis, Identity
from celeb_basis.backend.known_models import remember_model
from celeb_basis.cli import main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a tiny Stable Diffusion, which knows the word "beach", and a person of its basis."""
    folder = tmp_path_factory.mktemp("model")
    pipe = make_pipeline("sd1")
    pipe.save_pretrained(folder / "sd")
    pipe.register_to_config(_name_or_path=str(folder / "sd"))
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    remember_model(folder / "sd", basis.fingerprint)  # as loading it does
    basis.save(folder / "basis.safetensors")
    Identity.sample(basis, "<annika>", torch.Generator().manual_seed(1)).save(folder / "annika.safetensors")
    return folder


def test_info_says_what_to_type_in_each_program(model, capsys):
    typed = answer(capsys, "info", model / "annika.safetensors")["in_prompts"]
    assert typed["ComfyUI"] == "embedding:annika"
    assert typed["AUTOMATIC1111, Forge"] == typed["SD.Next"] == "annika"
    assert typed["InvokeAI"] == typed["celeb-basis"] == "<annika>"
    assert main(["info", str(model / "annika.safetensors")]) == 0
    assert "embedding:annika" in capsys.readouterr().out


def test_a_name_that_breaks_a_program_is_allowed_with_a_line(model, tmp_path, capsys):
    basis = ["--basis", model / "basis.safetensors"]
    for name, line in (("beach", "AUTOMATIC1111, Forge and SD.Next"), ("annika-2", "stable-diffusion.cpp")):
        file = tmp_path / f"{name}.safetensors"
        assert main(["sample", "--name", name, "-o", str(file), *map(str, basis)]) == 0
        [said] = capsys.readouterr().err.splitlines()
        assert line in said and "works everywhere" in said
        assert line in answer(capsys, "info", file)["name"]
        assert main(["blend", str(file), str(file), "--name", name, "-o", str(file)]) == 0
        assert line in capsys.readouterr().err
    assert main(["sample", "--name", "annika", "-o", str(tmp_path / "annika.safetensors"), *map(str, basis)]) == 0
    assert capsys.readouterr().err == ""


def test_fit_looks_at_the_models_own_vocabulary(tmp_path, capsys):
    photo = tmp_path / "photo.jpg"
    assert main(["miniature", "person", "-o", str(photo)]) == 0
    capsys.readouterr()
    for name, lines in (("beach", 1), ("annika", 0)):
        out = tmp_path / f"{name}.safetensors"
        assert main(["fit", str(photo), "--name", name, "--steps", "0", "-o", str(out)]) == 0
        assert sum("works everywhere" in line for line in capsys.readouterr().err.splitlines()) == lines


def draw(capsys, model, out, *more):
    report = answer(
        capsys, "generate", "a photo of <annika>", "--model", model / "sd", "--steps", 2, "--identity",
        model / "annika.safetensors", "-o", out, *more,
    )  # fmt: skip
    with Image.open(report["pictures"][0]) as picture:
        return picture.convert("RGB").tobytes()


def test_strength_of_everybody_or_of_one(model, tmp_path, capsys):
    basis = ["--basis", model / "basis.safetensors"]
    plain = draw(capsys, model, tmp_path / "plain.png")
    assert draw(capsys, model, tmp_path / "one.png", "--strength", 1) == plain
    weak = draw(capsys, model, tmp_path / "weak.png", "--strength", 0.5, *basis)
    assert weak != plain
    named = draw(capsys, model, tmp_path / "named.png", "--strength", 2, "--strength", "annika=.5", *basis)
    assert named == weak
    assert answer(capsys, "info", tmp_path / "named.png")["strength"] == "<annika>=0.5"
    assert "strength" not in answer(capsys, "info", tmp_path / "plain.png")


@pytest.mark.parametrize(
    "given, why",
    [
        (["--strength", "much"], "is not S or NAME=S"),
        (["--strength", "7", "--basis", "basis.safetensors"], "a strength of 7 must be from 0"),
        (["--strength", "tovik=.5"], "give that person with --identity"),
        (["--strength", ".5", "--strength", ".6"], "given twice"),
        (["--strength", ".5"], "names are two tokens in this model"),
        (["--basis", "basis.safetensors"], "--basis is for --strength"),
    ],
)
def test_strengths_that_are_refused(model, capsys, monkeypatch, given, why):
    monkeypatch.chdir(model)
    command = ["generate", "<annika>", "--model", "sd", "--identity", "annika.safetensors", *given]
    assert why in complaint(capsys, *command)


def test_a_file_of_many_vectors_is_drawn_with_and_not_blended(model, tmp_path, capsys):
    save_file({"<thing>": torch.full((4, 32), 0.1)}, tmp_path / "thing.safetensors")
    assert answer(capsys, "info", tmp_path / "thing.safetensors")["vectors"] == [4, 32]
    answer(
        capsys, "generate", "a photo of <thing>", "--model", model / "sd", "--steps", 2, "--identity",
        tmp_path / "thing.safetensors", "-o", tmp_path / "thing.png",
    )  # fmt: skip
    pair = [tmp_path / "thing.safetensors", model / "annika.safetensors"]
    assert "made for different models" in complaint(capsys, "blend", *pair, "--name", "x", "-o", "x.safetensors")
    pair[1] = pair[0]
    assert "has 4 vectors" in complaint(capsys, "blend", *pair, "--name", "x", "-o", tmp_path / "x.safetensors")

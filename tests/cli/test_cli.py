"""The command line as its users meet it: help, answers, errors, and what is left on disk."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch
from called import answer, complaint
from conftest import NAMES, make_pipeline
from PIL import Image

from celeb_basis import CelebBasis, Face, Identity, InstantMap
from celeb_basis.cli import main
from celeb_basis.cli.command import as_text, make_parser

COMMANDS = ["basis", "fit", "blend", "sample", "generate", "evaluate", "demo", "info", "miniature person"]


def run(*args, **more):
    """The command in a process of its own, as a shell would start it."""
    command = [sys.executable, "-m", "celeb_basis", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, **more)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a tiny Stable Diffusion, and its basis in a file."""
    folder = tmp_path_factory.mktemp("model")
    pipe = make_pipeline("sd1")
    pipe.save_pretrained(folder / "sd")
    CelebBasis.from_pipeline(pipe, NAMES).save(folder / "basis.safetensors")
    return folder


@pytest.fixture
def people(model, tmp_path):
    """Two made-up people in files."""
    basis = CelebBasis.load(model / "basis.safetensors")
    for seed, name in enumerate(("ann", "ben")):
        person = Identity.sample(basis, f"<{name}>", torch.Generator().manual_seed(seed))
        person.save(tmp_path / f"{name}.safetensors")
    return tmp_path / "ann.safetensors", tmp_path / "ben.safetensors"


class Halves:
    """A reader to whom the two halves of a wide photo are two people; the feature is the mean colour."""

    name = "halves"

    def read(self, images):
        return [[self._face(part) for part in self._parts(image)] for image in images]

    def _parts(self, image):
        w, h = image.size
        return [image.crop((0, 0, h, h)), image.crop((h, 0, w, h))] if w > h else [image]

    def _face(self, image):
        colour = torch.tensor(image.resize((1, 1)).getpixel((0, 0))).float() + 1
        return Face(image, (0.0, 0.0, image.width, image.height), colour / colour.norm(), self.name)


@pytest.fixture
def fit(model, tmp_path, monkeypatch):
    """The words of a fit with the tiny model, of photos whose faces are read as above."""
    monkeypatch.setattr("celeb_basis.model.get_face_reader", lambda pipe, name=None: Halves())
    Image.new("RGB", (64, 64), (200, 90, 40)).save(tmp_path / "one.png")
    Image.new("RGB", (100, 64), (200, 90, 40)).save(tmp_path / "two.png")
    return ["fit", "--model", model / "sd", "--basis", model / "basis.safetensors", "--name", "ada"]


# Help


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_shows_examples_that_parse(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    examples = re.findall(r"^  celeb-basis (.+)$", capsys.readouterr().out, re.MULTILINE)
    assert examples
    for example in examples:
        assert make_parser().parse_args(shlex.split(example)).run is not None


def test_help_imports_nothing_heavy():
    """Neither torch nor anything built on it is imported for help."""
    code = "import sys, celeb_basis.cli.command as c; c.make_parser().format_help(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "diffusers", "transformers", "numpy", "PIL"} & set(modules.split())
    assert run("--help").returncode == 0


def test_version_and_bare_call():
    assert re.fullmatch(r"celeb-basis \d+\.\d+\.\d+\S*\n", run("--version").stdout)
    bare = run()
    assert bare.returncode == 0 and "start here" in bare.stdout


# Answers


def test_basis_reports_names_and_variance(model, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("\n".join([*NAMES, "zzz qqq", NAMES[0]]))
    out = tmp_path / "b.safetensors"
    report = answer(capsys, "basis", "--model", model / "sd", "--names", tmp_path / "names.txt", "-o", out)
    assert report["names"] == len(NAMES) and report["dropped_names"] == {"zzz qqq": "6 tokens"}
    assert report["n_components"] == CelebBasis.load(out).n_components == 7  # 8 first names
    assert report["variance_explained"][0] == pytest.approx(1, abs=1e-4)
    few = answer(
        capsys,
        "basis",
        "--model",
        model / "sd",
        "--names",
        tmp_path / "names.txt",
        "--n-components",
        3,
        "-o",
        out,
    )
    assert few["n_components"] == 3 and few["numbers"] == 6


def test_without_names_the_basis_is_made_of_celebrities(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("celeb_basis.model.celebrity_names", lambda: NAMES)
    report = answer(capsys, "basis", "--model", model / "sd", "-o", tmp_path / "b.safetensors")
    assert report["names"] == len(NAMES) and report["dropped"] == {}


def test_sample_is_reproducible_and_info_knows_it(model, tmp_path, capsys):
    files = [tmp_path / "eve.safetensors", tmp_path / "again.safetensors"]
    for file in files:
        report = answer(
            capsys, "sample", "--name", "eve", "--seed", 3, "--basis", model / "basis.safetensors", "-o", file
        )
    assert torch.equal(*(Identity.load(file).vectors for file in files))
    assert report["identity"] == "<eve>" and report["numbers"] == 14
    info = answer(capsys, "info", files[0], "--basis", model / "basis.safetensors")
    assert info["identity"] == "<eve>" and info["radii_from_mean"] == pytest.approx(report["radii_from_mean"], rel=1e-3)


def test_blend_lies_between(people, tmp_path, capsys):
    out = tmp_path / "cy.safetensors"
    assert answer(capsys, "blend", *people, "--weight", ".25", "--name", "<cy>", "-o", out)["identity"] == "<cy>"
    first, second, mixed = (Identity.load(path).vectors for path in (*people, out))
    torch.testing.assert_close(mixed, 0.75 * first + 0.25 * second)


def test_fit_learns_a_person_in_a_file(fit, model, tmp_path, capsys):
    photo, out = tmp_path / "one.png", tmp_path / "ada.safetensors"
    report = answer(capsys, *fit, photo, photo, "--steps", 2, "--seed", 1, "-o", out)
    assert list(report) == ["identity", "file", "seconds", "likeness", "next"]
    assert report["identity"] == "<ada>" and -1 <= report["likeness"] <= 1
    first = Identity.load(out)
    assert first.provenance["photos"] == "2" and answer(capsys, "info", out)["photos"] == "2"
    assert first.provenance["max_train_steps"] == "2" and first.provenance["init"] == "mean"
    answer(capsys, *fit, photo, photo, "--steps", 2, "--seed", 1, "-o", out)
    assert torch.equal(Identity.load(out).vectors, first.vectors)
    card = model / "sd" / "celeb_basis.json"
    card.write_text('{"templates": ["a photo of {}"]}')  # the published captions are too long for this text encoder
    answer(capsys, *fit, photo, "--steps", 2, "--method", "paper", "--lr", ".01", "-o", out)
    card.unlink()
    basis = CelebBasis.load(model / "basis.safetensors")
    assert (
        Identity.load(out).coefficients(basis).norm(dim=-1) > 2 * basis.median_radius
    ).all()  # the paper's overshoot


def test_several_people_in_one_job_are_as_if_alone(fit, tmp_path, capsys):
    Image.new("RGB", (64, 64), (20, 90, 200)).save(tmp_path / "blue.png")
    Image.new("RGB", (32, 32), (20, 200, 90)).save(tmp_path / "a,b.png")
    options = [*fit[:-2], "--steps", 2, "--seed", 3]
    ada, bo = f"ada={tmp_path / 'one.png'},{tmp_path / 'blue.png'}", f"<bo>={tmp_path / 'a,b.png'}"
    report = answer(capsys, *options, "--person", ada, "--person", bo, "-o", tmp_path / "new" / "people")
    assert [person["identity"] for person in report["people"]] == ["<ada>", "<bo>"]
    files = [tmp_path / "new" / "people" / f"{name}.safetensors" for name in ("ada", "bo")]
    assert [Path(person["file"]) for person in report["people"]] == files
    assert [Identity.load(file).provenance["photos"] for file in files] == ["2", "1"]
    alone = answer(
        capsys, *options, tmp_path / "one.png", tmp_path / "blue.png", "--name", "ada", "-o", tmp_path / "x.safetensors"
    )
    assert alone.keys() == report["people"][0].keys()
    torch.testing.assert_close(
        Identity.load(files[0]).vectors, Identity.load(tmp_path / "x.safetensors").vectors, atol=1e-4, rtol=1e-3
    )
    drawn = shlex.split(report["next"])
    assert drawn[:2] == ["celeb-basis", "generate"] and "<ada> on the left and <bo> on the right" in drawn[2]
    assert make_parser().parse_args(drawn[1:]).apart


def test_of_several_people_the_one_whose_photo_fails_is_named(fit, tmp_path, capsys):
    people = [*("--person", f"ada={tmp_path / 'one.png'}"), *("--person", f"bo={tmp_path / 'two.png'}")]
    assert "two.png: 2 faces found" in complaint(capsys, *fit[:-2], *people, "-o", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "bo.safetensors").mkdir()
    assert "bo.safetensors: it is a folder" in complaint(capsys, *fit[:-2], *people, "-o", tmp_path)


def test_fit_in_closed_form(fit, model, tmp_path, capsys):
    basis = CelebBasis.load(model / "basis.safetensors")
    features = torch.nn.functional.normalize(torch.randn(20, 3), dim=-1)
    instant_map = InstantMap.fit(
        features, (features @ torch.randn(3, 14)).view(20, 2, 7), basis=basis, face_reader=Halves.name
    )
    instant_map.save(tmp_path / "map.safetensors")
    out = tmp_path / "ada.safetensors"
    answer(capsys, *fit, tmp_path / "one.png", "--instant", tmp_path / "map.safetensors", "--steps", 0, "-o", out)
    [[face]] = Halves().read([Image.open(tmp_path / "one.png")])
    expected = instant_map.predict(face.feature)
    # Nobody stands further out than the celebrities.
    expected *= (basis.median_radius / torch.maximum(expected.norm(dim=-1), basis.median_radius))[:, None]
    torch.testing.assert_close(Identity.load(out).coefficients(basis), expected, atol=1e-5, rtol=1e-4)


def test_of_two_faces_the_largest_when_asked(fit, tmp_path, capsys):
    out = tmp_path / "ada.safetensors"
    line = complaint(capsys, *fit, tmp_path / "two.png", "-o", out)
    assert "two.png: 2 faces found" in line and "--largest-face" in line and "largest=" not in line
    assert not out.exists()
    assert main([*map(str, fit), str(tmp_path / "two.png"), "--largest-face", "--steps", "1", "-o", str(out)]) == 0
    assert out.exists() and "starting from the mean person" in capsys.readouterr().err


def test_generate_writes_named_reproducible_pictures(model, people, tmp_path, capsys):
    prompt = "a photo of <ann> and <sks> on the beach"
    arguments = [
        *("generate", prompt, "--model", model / "sd", "--steps", 2, "--seed", 5),
        *("--identity", people[0], "--identity", f"sks={people[1]}"),
    ]
    many = answer(capsys, *arguments, "-n", 2, "-o", tmp_path / "new" / "folder")["pictures"]
    assert [Path(file).name for file in many] == [f"a-photo-of-ann-and-sks-on-the-beach-{s}.png" for s in (5, 6)]
    [one] = answer(capsys, *arguments, "-o", tmp_path / "one.png")["pictures"]
    first, second, alone = (np.asarray(Image.open(file), dtype=int) for file in (*many, one))
    # Matrix products of one picture and of two may be rounded differently.
    assert np.abs(first - alone).max() <= 1 < np.abs(first - second).max()
    info = answer(capsys, "info", many[1])
    assert info["prompt"] == prompt and info["seed"] == "6"


def test_people_stand_where_they_are_told(model, people, tmp_path, capsys):
    def drawn(prompt, *where):
        line = ["generate", prompt, "--identity", people[0], "--identity", people[1], "--model", model / "sd"]
        report = answer(capsys, *line, "--steps", 2, *where, "-o", tmp_path / "pair.png")
        assert ("--apart" in where) == (report.get("from left to right") == ["<ben>", "<ann>"])
        return Image.open(report["pictures"][0]).tobytes()

    prompt = "<ann> on the right and <ben> on the left"
    columns = drawn(prompt, "--apart")
    assert drawn(prompt, "--region", "<BEN>=0,0,.5,1", "--region", "ann=.5,0,1,1") == columns != drawn(prompt)
    assert drawn(prompt, "--region", "ann=0,0,.5,1", "--region", "<ben>=.5,0,1,1") != columns


def test_info_of_a_basis_and_of_an_instant_map(model, tmp_path, capsys):
    basis = CelebBasis.load(model / "basis.safetensors")
    features = torch.nn.functional.normalize(torch.randn(20, 5), dim=-1)
    instant_map = InstantMap.fit(features, torch.randn(20, 2, 7), basis=basis, face_reader="squares")
    instant_map.save(tmp_path / "map.safetensors")
    assert answer(capsys, "info", model / "basis.safetensors")["names"] == len(NAMES)
    assert answer(capsys, "info", tmp_path / "map.safetensors")["instant_map"] == "squares"


def test_a_citizen_of_the_miniature_is_always_the_same(tmp_path, capsys):
    files = [tmp_path / name for name in ("a.png", "again.png", "b.png", "a.jpg")]
    for file, seed in zip(files, (7, 7, 2**62, 7), strict=True):
        assert answer(capsys, "miniature", "person", "--seed", seed, "-o", file)["file"] == str(file)
    first, again, other, lossy = (Image.open(file).convert("RGB") for file in files)
    assert first.tobytes() == again.tobytes() != other.tobytes()
    assert abs(np.asarray(first).astype(int) - np.asarray(lossy)).mean() < 3


def test_text_for_people_says_what_the_json_says(people, capsys):
    assert main(["info", str(people[0])]) == 0
    assert re.search(r"^identity +<ann>$", capsys.readouterr().out, re.MULTILINE)
    text = as_text(
        {
            "a": 0.123456,
            "long_name": [1, 2],
            "none": [],
            "group": {"b": 1.0},
            "score": {"mean": 0.5, "interval": (0.4, 0.61)},
            "people": [{"c": 1}, {"c": 2}],
            "many": list(range(20)),
        }
    )
    assert text.splitlines() == [
        "a          0.123",
        "long name  1, 2",
        "none       none",
        "group",
        "  b  1",
        "score      0.500 (0.400 to 0.610)",
        "people",
        "  c  1",
        "",
        "  c  2",
        "",
        "many       0, 1, 2, 3, 4, 5, 6, 7 and 12 more",
    ]


# Refusals


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("bend", "invalid choice"),
        ("fit", "give one person's PHOTO, or --person NAME=PHOTO"),
        ("fit nobody.jpg", "there is no such file"),
        ("fit --name ada", "give one person's PHOTO, or --person NAME=PHOTO"),
        ("fit nobody.jpg --person ada=ada.jpg", "leave out --name and PHOTO"),
        ("fit --person ada=ada.jpg nobody.jpg", "leave out --name and PHOTO"),
        ("fit --name ada --person ada=ada.jpg", "leave out --name and PHOTO"),
        ("fit --person ada.jpg", "'ada.jpg' is not NAME=PHOTO"),
        ("fit --person ada=", "'ada=' is not NAME=PHOTO"),
        ("fit --person =ada.jpg", "'=ada.jpg' is not NAME=PHOTO"),
        ("fit --person ada=1.jpg,,2.jpg", "is not NAME=PHOTO"),
        ("fit --person Ada=1.jpg", "'<Ada>' cannot be a placeholder token"),
        ("fit --person ada=1.jpg --person <ada>=2.jpg", "--person <ada> is given twice"),
        ("fit --person ada=nobody.jpg", "nobody.jpg: there is no such file"),
        ("fit --person ada=nobody.jpg -o ada.safetensors", "with --person name a folder"),
        ("fit --person ada=nobody.jpg -o /dev/null/people", "cannot write in"),
        ("fit nobody.jpg --name ada", "there is no such file"),
        ("fit nobody.jpg --name Ada", "'<Ada>' cannot be a placeholder token"),
        ("generate hello --identity A=missing.safetensors", "'<A>' cannot be a placeholder token"),
        ("evaluate --identity x --photo y --model some/model", "y: there is no such file"),
        ("fit nobody.jpg --name ada -o ada.png", "end the name in .safetensors"),
        ("fit nobody.jpg --name ada --steps -1", "--steps: '-1' is not a whole number"),
        ("fit nobody.jpg --name ada --method dreambooth", "invalid choice"),
        ("basis --num-images 3", "--num-images is for --filter"),
        ("basis --seed 0", "--seed is for --filter"),
        ("fit nobody.jpg --name ada --method paper --init mean", "nobody.jpg"),
        ("fit nobody.jpg --name ada --lr 0", "not a number above 0"),
        ("fit nobody.jpg --name ada -o no/folder.safetensors", "there is no folder no"),
        ("blend a.safetensors b.safetensors --name c", "no such file"),
        ("blend a.safetensors b.safetensors --name c --weight 1.5", "not a number from 0 to 1"),
        ("sample --name eve --basis missing.safetensors", "no such file"),
        ("basis --names missing.txt", "there is no such file"),
        ("basis --names .", "is a folder"),
        ("generate hello --identity missing.safetensors", "no such file"),
        ("generate hello -n 0", "not a whole number of 1 or more"),
        ("generate hello -n 2 -o one.png", "2 pictures do not fit"),
        ("generate hello -o one.jpg", "end the name in .png"),
        ("generate hello --apart --region ada=0,0,1,1", "not allowed with argument"),
        ("generate hello --region ada", "'ada' is not NAME=LEFT,TOP,RIGHT,BOTTOM"),
        ("generate hello --region ada=0,0,half,1", "is not NAME=LEFT,TOP,RIGHT,BOTTOM"),
        ("generate hello --region ada=.5,0,.2,1", "the region of ada is 0.5,0,0.2,1"),
        ("generate hello --region hello=0,0,.5,1 --region hello=.5,0,1,1", "--region hello is given twice"),
        ("generate hello --region bo=0,0,.5,1", "does not mention 'bo'"),
        ("generate hello --model nonsense", "no model 'nonsense'"),
        ("info missing.safetensors", "no such file"),
        ("info missing.png", "no such file"),
        ("info .", "is a folder"),
        ("evaluate --identity x.safetensors --photo missing.jpg", "no such file"),
        ("demo --photo missing.jpg --out /dev/null/demo", "cannot write in"),
        ("miniature", "required: COMMAND"),
        ("miniature person --seed x", "not a whole number"),
        ("miniature person -o person.gif", ".jpg or .jpeg or .png"),
    ],
)
def test_wrong_input_is_one_line(line, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert says in complaint(capsys, *shlex.split(line))
    assert not list(tmp_path.iterdir())


def test_a_fit_that_cannot_start(fit, people, tmp_path, capsys):
    photo, out = tmp_path / "one.png", tmp_path / "ada.safetensors"
    line = complaint(capsys, *fit, photo, "--init", "instant", "-o", out)
    assert "needs a map" in line and "(--instant-map)" in line
    assert "not an instant map" in complaint(capsys, *fit, photo, "--instant-map", people[0], "-o", out)
    line = complaint(capsys, *fit, photo, "--init", "mean", "--instant-map", people[0], "-o", out)
    assert "leave it out (--instant-map)" in line
    for start, way in (([], "(--instant-map)"), (["--init", "mean"], "take steps (--steps)")):
        line = complaint(capsys, *fit, photo, "--steps", 0, *start, "-o", out)
        assert "would be the mean person" in line and way in line
    assert not out.exists()


def test_a_photo_and_a_model_are_all_that_a_fit_needs(fit, model, tmp_path, monkeypatch, capsys):
    """The name comes from the file, the basis from the shipped names, the start is the mean person."""
    monkeypatch.setattr("celeb_basis.model.celebrity_names", lambda: NAMES)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.png").rename("Zoë 1.png")
    folder = model / "sd"
    for made in (True, False):
        assert main(["fit", "Zoë 1.png", "--model", str(folder), "--steps", "1", "--json"]) == 0
        said = capsys.readouterr()
        assert ("no basis was given: made one" in said.err) is made  # the second time it is found
        report = json.loads(said.out)
        assert (report["identity"], report["file"]) == ("<zoe-1>", "zoe-1.safetensors")
        assert Identity.load(report["file"]).provenance["init"] == "mean"
    person = Identity.load("zoe-1.safetensors")
    assert person.provenance["basis_digest"] == CelebBasis.load(model / "basis.safetensors").digest


def test_a_picture_is_drawn_by_the_model_that_the_identity_was_made_for(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("celeb_basis.model.celebrity_names", lambda: NAMES)
    eve, image = tmp_path / "eve.safetensors", tmp_path / "eve.png"
    answer(capsys, "sample", "--name", "eve", "--model", model / "sd", "-o", eve)
    drawn = answer(capsys, "generate", "<eve>", "--identity", eve, "--steps", 1, "-o", image)
    assert drawn["pictures"] == [str(image)]
    with Image.open(image) as picture:
        assert picture.text["model"] == Path(drawn["model"]).name == "sd" and picture.text["prompt"] == "<eve>"


def test_no_model_is_downloaded_because_a_file_names_it(tmp_path, capsys):
    torch.manual_seed(0)
    Identity("<ada>", torch.randn(2, 6), (6,), model="some/model").save(tmp_path / "ada.safetensors")
    line = complaint(capsys, "generate", "<ada>", "--identity", tmp_path / "ada.safetensors", "-o", tmp_path)
    assert "some/model is not on this machine" in line and "(--model)" in line


def test_files_of_another_kind_are_refused(model, people, tmp_path, capsys):
    (tmp_path / "text.safetensors").write_text("hello")
    assert "not a readable safetensors file" in complaint(capsys, "info", tmp_path / "text.safetensors")
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    for file in (tmp_path / "plain.png", model / "basis.safetensors"):
        assert "no identity" in complaint(capsys, "info", file, "--basis", model / "basis.safetensors")
    (tmp_path / "text.png").write_text("hello")
    assert "not a picture" in complaint(capsys, "info", tmp_path / "text.png")
    assert "not a celeb basis" in complaint(capsys, "sample", "--name", "e", "--basis", people[0])
    blended = complaint(capsys, "blend", people[0], model / "basis.safetensors", "--name", "c")
    assert "is not an identity of two vectors" in blended


def test_people_and_prompt_must_belong_together(model, people, tmp_path, capsys):
    draw = ["generate", "--model", model / "sd", "--steps", 1, "-o", tmp_path / "new"]
    assert "<bo>" in complaint(capsys, *draw, "a photo of <bo>")
    assert "<ann>" in complaint(capsys, *draw, "a photo", "--identity", people[0])
    twice = complaint(capsys, *draw, "a photo of <x>", "--identity", f"x={people[0]}", "--identity", f"x={people[1]}")
    assert "two identities are called <x>" in twice
    assert "placeholder token" in complaint(capsys, *draw, "a photo", "--identity", f"A B={people[0]}")
    assert not (tmp_path / "new").exists()


def test_more_components_than_rank_says_the_rank(model, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    line = complaint(
        capsys,
        *("basis", "--model", model / "sd", "--names", tmp_path / "names.txt"),
        *("--n-components", 8, "-o", tmp_path / "b.safetensors"),
    )
    assert "between 1 and 7" in line and not (tmp_path / "b.safetensors").exists()


def test_an_evaluation_that_is_refused_leaves_no_folder(model, people, tmp_path, capsys):
    Image.new("RGB", (64, 64)).save(tmp_path / "wall.jpg")
    command = ("evaluate", "--identity", people[0], "--photo", tmp_path / "wall.jpg", "--clip", "none")
    assert main([*map(str, command), "--model", str(model / "sd"), "--device", "cpu", "-o", str(tmp_path / "out")]) == 2
    assert "no face found" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_real_photos_say_what_finding_faces_needs(model, tmp_path, monkeypatch, capsys):
    """Without the package of the face models: the pip line. With it no network is needed."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    Image.new("RGB", (64, 64)).save(tmp_path / "me.jpg")
    command = (
        *("fit", tmp_path / "me.jpg", "--name", "ada", "--init", "mean", "-o", tmp_path / "ada.safetensors"),
        *("--model", model / "sd", "--basis", model / "basis.safetensors"),
    )
    assert "me.jpg: no face found" in complaint(capsys, *command)

    def not_installed(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr("celeb_basis.faces.recognise.metadata.files", not_installed)
    assert "pip install -e '.[photo]'" in complaint(capsys, *command)


@pytest.mark.parametrize(
    "line",
    [
        "fit {}.jpg --name ada",
        "fit x.jpg --name {}",
        "generate hello --model {} -o x.png",
        "generate hello --identity {}.pt -o x.png",
        "generate hello --identity a={}.pt -o x.png",
        "generate hello -o {}/x.png",
        "generate hello -o {}",
        "sample --name eve --basis {}.safetensors",
        "info {}.safetensors",
        "info {}.png",
        "miniature person -o {}.png",
        "demo -o {}",
    ],
)
def test_a_name_that_is_too_long_is_one_line(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    complaint(capsys, *shlex.split(line.format("x" * 300)))
    assert not list(tmp_path.iterdir())


def test_a_reader_that_has_read_enough(people):
    """The answer goes into a pipe that nobody reads any more."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "celeb_basis", "info", people[0]]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_places_that_cannot_be_written(people, capsys):
    assert "cannot write" in complaint(capsys, "blend", *people, "--name", "c", "-o", "/proc/c.safetensors")


def test_an_older_file_survives_a_refusal(model, people, tmp_path, capsys):
    before = people[0].read_bytes()
    complaint(capsys, "sample", "--name", "A B", "--basis", model / "basis.safetensors", "-o", people[0])
    assert people[0].read_bytes() == before and len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
@pytest.mark.parametrize("library", ["libtorch_cpu", "tokenizers"])
def test_ctrl_c_is_one_line_and_leaves_nothing(library, model, people, tmp_path):
    """Stopped inside torch's own import, or after it: 130, one line, no folder, no picture."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "celeb_basis", "generate", "a photo of <ann>", "--model", model / "sd"),
            *("--identity", people[0], "-n", "99", "--steps", "500", "-o", tmp_path / "new"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs ignore it
    )
    try:
        while library not in Path(f"/proc/{process.pid}/maps").read_text():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and out == ""
    assert err.strip().splitlines()[-1] == "celeb-basis: stopped" and "Traceback" not in err
    assert not (tmp_path / "new").exists()


def test_no_memory_left_is_one_line(people, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB.")

    monkeypatch.setattr(Identity, "blend", full)
    line = complaint(capsys, "blend", *people, "--name", "c", "-o", tmp_path / "c.safetensors")
    assert "not enough GPU memory: CUDA" in line

    def full_of_numbers(*_):
        return torch.empty(2**46)

    monkeypatch.setattr(Identity, "blend", full_of_numbers)
    assert "not enough memory" in complaint(capsys, "blend", *people, "--name", "c", "-o", tmp_path / "c.safetensors")


def test_other_failures_are_not_hidden(people, monkeypatch):
    """A fault of ours shows its traceback instead of passing for wrong input."""

    def broken(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(Identity, "blend", broken)
    with pytest.raises(ZeroDivisionError):
        main(["blend", *map(str, people), "--name", "c", "-o", str(people[0])])


# What is said before a model is loaded, and what stays as it is on the disk


@pytest.mark.parametrize(
    ("words", "meant"),
    [("generat hi", "generate"), ("fit me.jpg --nmae ada", "--name"), ("generate hi --stepz 3", "--steps")],
)
def test_a_typing_error_gets_a_suggestion(words, meant, capsys):
    assert f"did you mean {meant}?" in complaint(capsys, *words.split())


def test_mistakes_in_a_prompt_are_found_before_the_model_is_loaded(people, capsys):
    """The model is not there, so that loading it would be the error."""
    ann = ["--identity", people[0], "--model", "miniature", "--device", "no-such-device"]
    assert "does not mention <ann>" in complaint(capsys, "generate", "a photo of ann", *ann)
    assert "nobody called <bob>" in complaint(capsys, "generate", "<ann> and <bob>", *ann)
    assert "no device" in complaint(capsys, "generate", "a photo of <ann>", *ann)


def test_a_picture_of_other_settings_keeps_its_place(model, tmp_path, capsys):
    draw = ["generate", "a photo", "--model", model / "sd", "--steps", 1, "-o", tmp_path / "out"]
    first = answer(capsys, *draw)["pictures"]
    assert answer(capsys, *draw)["pictures"] == first  # the same picture may take its own place
    other = answer(capsys, *draw, "--guidance", 3)["pictures"]
    assert [Path(file).name for file in first + other] == ["a-photo-0.png", "a-photo-0-2.png"]
    with Image.open(first[0]) as one, Image.open(other[0]) as two:
        assert (one.text["guidance"], two.text["guidance"]) == ("7.5", "3.0")
        assert "Steps: 1, Sampler: DDIM, CFG scale: 7.5, Seed: 0" in one.text["parameters"]

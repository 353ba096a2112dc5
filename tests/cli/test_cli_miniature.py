"""The newcomer's commands, on the miniature: a photo, a fit, pictures, figures."""

import json
import shlex
import shutil
import subprocess
import sys
from functools import partialmethod
from pathlib import Path

import pytest
from called import answer, complaint
from PIL import Image

from celeb_basis import BasisError, CelebBasis, Identity, IdentityError, Model
from celeb_basis.backend.card import DEFAULT_MODEL, SHIPPED, ModelCard
from celeb_basis.cli import main
from celeb_basis.fit.recipe import recipe_for_card
from celeb_basis.miniature.drawn.people import celebrities
from celeb_basis.miniature.drawn.world import SIZE


@pytest.fixture(scope="module")
def ada(tmp_path_factory):
    """A citizen's photo and the identity fitted from it in a few steps, as files."""
    folder = tmp_path_factory.mktemp("ada")
    photo, identity = folder / "ada.jpg", folder / "ada.safetensors"
    assert main(["miniature", "person", "--seed", "4321", "-o", str(photo)]) == 0
    assert main(["fit", str(photo), "--name", "ada", "--steps", "10", "-o", str(identity)]) == 0
    return photo, identity


def init_of(report):
    """Where a fit began, as its file says."""
    return Identity.load(report["file"]).provenance["init"]


def test_the_newcomers_three_commands(ada, tmp_path, capsys):
    [file] = answer(
        capsys,
        *("generate", "a photo of <ada> on the beach", "--identity", ada[1], "-o", tmp_path / "beach.png"),
    )["pictures"]
    assert Image.open(file).size == (SIZE, SIZE)


def test_instant_is_the_default_start(ada, tmp_path, capsys):
    answer(capsys, "fit", ada[0], "--name", "ada", "--steps", 0, "-o", tmp_path / "a.safetensors")
    basis = ModelCard.of(DEFAULT_MODEL).basis
    report = answer(capsys, "info", tmp_path / "a.safetensors", "--basis", basis)
    assert report["init"] == "instant"
    assert all(0.2 < radius < 1.5 for radius in report["radii_from_mean"])


def test_the_shipped_basis_can_be_made_again(tmp_path, capsys):
    shipped = CelebBasis.load(ModelCard.of(DEFAULT_MODEL).basis)
    answer(capsys, "basis", "--n-components", shipped.n_components, "-o", tmp_path / "basis.safetensors")
    assert CelebBasis.load(tmp_path / "basis.safetensors").fingerprint == shipped.fingerprint


def test_the_best_milestone_is_kept_and_said(ada, tmp_path, capsys):
    """The miniature's card asks for none; the option draws them."""
    out = tmp_path / "ada.safetensors"
    report = answer(capsys, "fit", ada[0], "--steps", 42, "--milestones", 2, "-o", out)
    told = Identity.load(out).provenance
    assert told["kept_step"] in ("21", "42") and float(told["likeness"]) > 0.3 and report["likeness"] > 0.3
    assert "kept_step" not in Identity.load(ada[1]).provenance


def test_the_face_loss_is_taken_and_said(ada, tmp_path, capsys):
    """The miniature's card does not ask for it; another method has none."""
    out = tmp_path / "ada.safetensors"
    for option, steps in (("--face-loss", "1"), ("--no-face-loss", "0")):
        answer(capsys, "fit", ada[0], "--steps", 1, option, "-o", out)
        assert Identity.load(out).provenance["face_loss_steps"] == steps
    assert Identity.load(ada[1]).provenance["face_loss_steps"] == "0"
    said = complaint(capsys, "fit", ada[0], "--method", "paper", "--face-loss", "-o", tmp_path / "b.safetensors")
    assert "has a face loss" in said and "--face-loss" in said


def test_a_person_may_be_farther_from_the_mean(ada, tmp_path, capsys):
    fit = ["fit", ada[0], "--steps", 3, "--lr", 5, "--init", "mean", "-o", tmp_path / "ada.safetensors"]
    basis, radii = CelebBasis.load(ModelCard.of(DEFAULT_MODEL).basis), []
    for radius in (0.5, 1.5):
        answer(capsys, *fit, "--max-radius", radius)
        radii.append((Identity.load(fit[-1]).coefficients(basis).norm(dim=-1) / basis.median_radius).tolist())
    assert max(radii[0]) <= 0.501 and 1 < max(radii[1]) <= 1.501
    assert "--method celeb-basis alone" in complaint(capsys, *fit[:-4], "--method", "paper", "--max-radius", 2)


def test_two_people_in_one_picture(ada, tmp_path, capsys):
    answer(capsys, "miniature", "person", "--seed", 4322, "-o", tmp_path / "bo.jpg")
    job = ["fit", "--steps", 2, "-o", tmp_path / "people", "--person", f"ada={ada[0]}"]
    report = answer(capsys, *job, "--person", f"bo={tmp_path / 'bo.jpg'}")
    drawn = answer(capsys, *shlex.split(report["next"])[1:], "-o", tmp_path / "pair.png")
    assert drawn["from left to right"] == ["<ada>", "<bo>"] and Image.open(tmp_path / "pair.png").size == (SIZE, SIZE)


def test_evaluate_says_how_alike(ada, tmp_path, capsys):
    command = ("evaluate", "--identity", ada[1], "--photo", ada[0], "--seeds", 1, "--celebrities", 3)
    command += ("-o", tmp_path / "evaluation")
    report = answer(capsys, *command)
    assert report["n_images"] == 10
    for scores in (report, report["celebrities"]):
        for name in ("identity", "prompt", "detection"):
            low, high = scores[name]["interval"]
            assert low <= scores[name]["mean"] <= high
    assert report["identity"]["mean"] > 0.2 > report["impostor_similarity"]["mean"]
    assert report["judge"] == "miniature-evaluation"
    pictures = sorted((tmp_path / "evaluation" / "pictures").iterdir())
    written = [file.stat().st_mtime_ns for file in pictures]
    assert answer(capsys, *command) == report
    pictures[0].unlink()
    again = answer(capsys, *command)  # the picture that is missing is drawn again, the others are not
    assert again["identity"]["mean"] == pytest.approx(report["identity"]["mean"], abs=0.01)
    assert sorted((tmp_path / "evaluation" / "pictures").iterdir()) == pictures
    assert [file.stat().st_mtime_ns for file in pictures[1:]] == written[1:]
    assert json.loads((tmp_path / "evaluation" / "report.json").read_text())["identity"] == again["identity"]


def test_a_photo_without_a_face_is_one_line(tmp_path, capsys):
    Image.new("RGB", (64, 64), "white").save(tmp_path / "wall.png")
    assert main(["fit", str(tmp_path / "wall.png"), "--name", "ada", "-o", str(tmp_path / "a.safetensors")]) == 2
    assert "no face found" in capsys.readouterr().err
    assert not (tmp_path / "a.safetensors").exists()


def astronaut(path):
    """Eileen Collins, by NASA, in scikit-image."""
    Image.fromarray(pytest.importorskip("skimage.data").astronaut()).save(path)
    return path


def admiral(path):
    """Grace Hopper, by James S. Davis, in matplotlib."""
    cbook = pytest.importorskip("matplotlib.cbook")
    return cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)


@pytest.mark.parametrize("photograph", [astronaut, admiral])
def test_people_of_the_real_world_are_one_line_on_the_miniature(photograph, tmp_path, capsys):
    photo, out = photograph(tmp_path / "photo.png"), tmp_path / "annika.safetensors"
    given = ["--name", "ada", "--steps", "0", "--model", "miniature", "-o", str(out)]
    assert main(["fit", str(photo), *given]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert "real photographs need the model portraits" in captured.err
    assert not (tmp_path / "annika.safetensors").exists()


def test_the_demo_takes_a_photo(ada, tmp_path, monkeypatch, capsys):
    """A shorter one: two steps, one scene, one celebrity to compare with."""
    monkeypatch.setattr("celeb_basis.miniature.demo.Model.fit", partialmethod(Model.fit, max_train_steps=2))
    monkeypatch.setattr("celeb_basis.miniature.demo.SCENES", {"on the beach": "a photo of {} on the beach"})
    monkeypatch.setattr("celeb_basis.miniature.demo.CELEBRITIES", 1)
    report = answer(capsys, "demo", "--photo", ada[0], "-o", tmp_path / "demo")
    files = {Path(report[key]) for key in ("photo", "identity file", "contact sheet")}
    assert set((tmp_path / "demo").iterdir()) == files and len(files) == 3


def test_filter_keeps_whom_the_model_knows(ada, tmp_path, capsys, caplog):
    from celeb_basis.known_names import Portraits

    known, nonsense = list(celebrities()[:30]), ["grove lund", "holding crown", "shaw berlin", "beach wearing"]
    (tmp_path / "names.txt").write_text("\n".join([*known, *nonsense]))
    command = ["basis", "--names", tmp_path / "names.txt", "--filter"]
    out = tmp_path / "small.safetensors"
    report = answer(capsys, *command, "--spectrum", tmp_path / "spectrum.png", "-o", out)
    [cost] = [line for line in caplog.messages if "names a minute here" in line]
    assert cost.endswith(f"minutes for {report['names_drawn']}")
    # The miniature does not know all of its celebrities well.
    assert report["names"] >= 0.8 * len(known)
    # Nor does it draw all nonsense as different people: "holding crown" is somebody to it.
    assert report["dropped_names"].keys() >= set(nonsense) - {"holding crown"}
    assert "tokens" in report["dropped_names"]["shaw berlin"]
    assert "nobody in particular" in report["dropped_names"]["grove lund"]
    assert sum(report["dropped"].values()) == len(known) + len(nonsense) - report["names"]
    assert Image.open(report["spectrum"]).width > 600

    drawn = Portraits.load(tmp_path / "small.faces.safetensors")
    described = answer(capsys, "info", tmp_path / "small.faces.safetensors")
    assert (described["names"], described["pictures_per_name"]) == drawn.features.shape[:2]
    assert described["faces"] == drawn.face_reader and described["without_a_face"] < len(known)
    answer(capsys, *command, "-o", out)  # nothing is left to draw
    assert Portraits.load(tmp_path / "small.faces.safetensors").features.equal(drawn.features)
    assert "remove their .faces.safetensors file" in complaint(capsys, *command, "--seed", 1, "-o", out)

    learn = ("fit", ada[0], "--name", "a", "--steps", 0, "--init", "instant", "--basis", out)
    fitted = answer(capsys, *learn, "-o", tmp_path / "a.safetensors")
    assert init_of(fitted) == "instant"


def test_a_folder_can_be_given_away_and_grows(ada, tmp_path, capsys):
    out, model = tmp_path / "mine", tmp_path / "model"
    names = celebrities()[::9]
    (tmp_path / "names.txt").write_text("\n".join(names))
    drawing = ["--num-names", 60, "--filter", "--steps", 2, "--batch-size", 8]
    command = ["basis", "--names", tmp_path / "names.txt", *drawing, "-o", out]
    early = answer(capsys, *command, "--minutes", 0.001)
    assert early["names"] == 60 and early["names_drawn"] < 60  # those that were not drawn stay
    late = answer(capsys, *command)
    assert late["names_drawn"] == 60 and late["pictures"] > early["pictures"]
    assert late["undecided"] <= 12 and late["names"] >= 40
    assert {file.name for file in out.iterdir()} == {
        "basis.safetensors", "instant_map.safetensors", "faces.safetensors", "celeb_basis.json",
    }  # fmt: skip

    assert ModelCard.of(out).max_train_steps == 80
    assert recipe_for_card(ModelCard.of(out)) == recipe_for_card(ModelCard.of(DEFAULT_MODEL))

    learn = ("fit", ada[0], "--name", "a", "--steps", 0)
    shutil.copytree(SHIPPED[DEFAULT_MODEL], model)
    shutil.copy(out / "faces.safetensors", model)
    answer(capsys, *command[:-1], model, "--model", model)
    by_folder = answer(capsys, *learn, "--basis", model, "-o", tmp_path / "a.safetensors")
    assert ModelCard.of(model).templates == ModelCard.of(DEFAULT_MODEL).templates
    assert init_of(answer(capsys, *learn, "--basis", out, "-o", tmp_path / "c.safetensors")) == "instant"
    beside = answer(capsys, *learn, "--model", model, "-o", tmp_path / "b.safetensors")
    assert init_of(by_folder) == init_of(beside) == "instant"
    assert Identity.load(tmp_path / "a.safetensors").vectors.equal(Identity.load(tmp_path / "b.safetensors").vectors)
    assert "without a card" in complaint(capsys, *learn, "--basis", tmp_path, "-o", tmp_path / "c.safetensors")


def test_what_is_drawn_when_ctrl_c_comes_is_kept_and_can_be_used(ada, tmp_path, monkeypatch, capsys):
    from celeb_basis.known_names import Portraits, find_known_names

    def interrupted(*args, **options):
        for i, step in enumerate(find_known_names(*args, **options)):
            yield step
            if i == 11:
                raise KeyboardInterrupt

    monkeypatch.setattr("celeb_basis.model.find_known_names", interrupted)
    out = tmp_path / "mine"
    assert (
        main([*map(str, ("basis", "--num-names", 60, "--filter", "--steps", 2, "--batch-size", 8, "-o", out))]) == 130
    )
    drawn = Portraits.load(out / "faces.safetensors")
    assert 80 < len(drawn.names) < 100  # 40 of them are made up
    learn = ("fit", ada[0], "--name", "a", "--steps", 0, "--basis", out, "-o", tmp_path / "a.safetensors")
    capsys.readouterr()
    assert init_of(answer(capsys, *learn)) == "instant"


def test_nobody_known_is_one_line(tmp_path, capsys):
    (tmp_path / "names.txt").write_text("grove lund\nholding crown\nbeach wearing\nlund grove\n")
    command = ("basis", "--quiet", "--names", tmp_path / "names.txt", "--filter", "--steps", 2)
    assert "as one person" in complaint(capsys, *command, "-o", tmp_path / "basis.safetensors")
    assert not (tmp_path / "basis.safetensors").exists()
    assert "at least 2" in complaint(capsys, *command, "--num-images", 1, "-o", tmp_path / "basis.safetensors")


def test_a_fit_stops_in_time(ada, tmp_path, capsys):
    command = ("fit", ada[0], "--name", "a", "--batch-size", 1, "--minutes", 0.02, "-o", tmp_path / "a.safetensors")
    report = answer(capsys, *command)
    how = Identity.load(report["file"]).provenance
    assert 1 <= int(how["steps"]) < int(how["max_train_steps"])


def test_evaluate_takes_the_largest_face_when_asked(ada, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("celeb_basis.evaluation.evaluate.CELEBRITIES", 1)
    names = " and ".join(celebrities()[:2])
    answer(capsys, "generate", f"a photo of {names} on the beach", "-o", tmp_path / "group.png")
    command = ("evaluate", "--identity", ada[1], "--photo", tmp_path / "group.png", "--seeds", 1, "-o", tmp_path)
    assert "--largest-face" in complaint(capsys, *command)
    report = answer(capsys, *command, "--largest-face")
    assert report["n_images"] == 10


@pytest.mark.parametrize("command", ["evaluate", "demo"])
def test_no_bars_where_no_terminal_is(command, ada, tmp_path):
    words = {
        "evaluate": ["--identity", ada[1], "--photo", ada[0], "--seeds", "1", "-o", tmp_path / "evaluation"],
        "demo": ["--photo", ada[0], "-o", tmp_path / "demo"],
    }[command]
    code = """
import sys
from celeb_basis.evaluation import evaluate, protocols
from functools import partialmethod
from celeb_basis.miniature import demo
evaluate.CELEBRITIES, protocols.PROTOCOLS["short"] = 1, protocols.Protocol({"scene": evaluate.PROMPTS[:1]})
demo.SCENES = {}
demo.Model.fit = partialmethod(demo.Model.fit, max_train_steps=1)
from celeb_basis.cli import main
from celeb_basis.fit.recipe import recipe_for_card
sys.exit(main(sys.argv[1:]))
"""
    done = subprocess.run([sys.executable, "-c", code, command, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""


def test_a_basis_of_names_of_any_length(tmp_path, capsys):
    (tmp_path / "names.txt").write_text("\n".join([*Model.load("miniature").basis.names[:9], "person", "a photo of a"]))
    words = ["--names", tmp_path / "names.txt", "--n-components", 3, "-o", tmp_path / "any.safetensors"]
    assert answer(capsys, "basis", *words)["names"] == 9
    report = answer(capsys, "basis", "--any-length", *words)
    assert report["names"] == 11 and not report["dropped"]
    assert main(["basis", "--any-length", "--filter"]) == 2
    assert "must be two tokens" in capsys.readouterr().err


def test_a_basis_that_is_not_there_is_said_of_the_basis(tmp_path):
    with pytest.raises(BasisError, match="no such file"):
        CelebBasis.load(tmp_path / "nothing.safetensors")
    with pytest.raises(IdentityError, match="no such file"):
        Identity.load(tmp_path / "nothing.safetensors")

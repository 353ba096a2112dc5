"""Folders and tables that others write: MultiID-Bench's layout, people to measure, photographs to check a reader on."""

import json

import pytest
import torch
from photographs import PHOTOS, photograph
from PIL import Image

from celeb_basis import Identity
from celeb_basis.cli import main
from celeb_basis.errors import PhotoError
from celeb_basis.evaluation.face_verification import measure_reader, people_in
from celeb_basis.evaluation.judge import PhotoJudge
from celeb_basis.evaluation.multiid_bench import copy_paste, evaluate_samples, pairs
from celeb_basis.evaluation.people_table import read_people
from celeb_basis.faces.face import Face
from celeb_basis.faces.reader import PhotoReader


def unit(degrees):
    angle = torch.deg2rad(torch.tensor(float(degrees)))
    return torch.stack([angle.cos(), angle.sin()])


def test_copying_the_reference_is_1_and_hitting_the_truth_minus_1():
    true, reference = unit(0), unit(40)
    assert copy_paste(reference, true, reference) == pytest.approx(1, abs=1e-3)
    assert copy_paste(true, true, reference) == pytest.approx(-1, abs=1e-3)
    assert copy_paste(unit(20), true, reference) == pytest.approx(0, abs=1e-3)
    assert copy_paste(unit(30), true, reference) == pytest.approx(0.5, abs=1e-3)


def test_faces_are_given_to_people_so_that_the_sum_is_largest():
    from scipy.optimize import linear_sum_assignment

    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        people, faces = (torch.nn.functional.normalize(torch.randn(n, 4, generator=generator), dim=-1) for n in (3, 6))
        rows, columns = linear_sum_assignment(-(people @ faces.T).numpy())
        expected = {int(i): int(j) for i, j in zip(rows, columns, strict=True)}
        given = pairs(list(people), list(faces))
        assert {i: int((faces @ given[i]).argmax()) for i in given} == expected
    assert len(pairs(list(people), list(faces[:1]))) == 1 and pairs(list(people), []) == {}


def test_pictures_of_another_program_are_scored(tmp_path):
    sample = tmp_path / "0001"
    sample.mkdir()
    (sample / "meta.json").write_text(json.dumps({"prompt": "a portrait of a woman"}))
    for name in ("out", "ori", "ref_1"):
        photograph("hopper").save(sample / f"{name}.jpg", quality=95)
    judge = PhotoJudge(PhotoReader("dlib"), None)
    report = evaluate_samples(tmp_path, judge)
    assert report["sim_ref"]["mean"] > 0.999 and report["sim_gt"]["mean"] > 0.999
    assert report["detection"]["mean"] == 1 and report["samples"] == 1 and "prompt" not in report
    photograph("astronaut").save(sample / "ref_1.jpg")
    other = evaluate_samples(tmp_path, judge)
    assert other["sim_ref"]["mean"] < 0.91 and other["copy_paste"]["mean"] < -0.9
    (sample / "meta.json").write_text(json.dumps({"prompt": "", "name": ["A Star"]}))
    with pytest.raises(PhotoError, match="people of the basis"):
        evaluate_samples(tmp_path, judge, celebrities=["a star"])
    assert evaluate_samples(tmp_path, judge, celebrities=["Another Star"])["left_out"] == []
    (sample / "meta.json").write_text("{}")
    with pytest.raises(PhotoError, match=r"meta\.json must be"):
        evaluate_samples(tmp_path, judge)


class Listed:
    """A reader that knows the faces of each picture by its colour."""

    name = "listed"

    def __init__(self, faces):
        self._faces = faces

    def read(self, images):
        return [self._faces[image.getpixel((0, 0))] for image in images]


def test_blending_is_the_wrong_person_in_the_right_persons_place(tmp_path):
    """Two people at right angles; in the picture the second one's face has moved towards the first one's."""
    black, white, grey, red = ((v, v, v) for v in (0, 255, 128, 64))

    def face(degrees):
        return Face(Image.new("RGB", (8, 8)), (0, 0, 8, 8), unit(degrees), "listed")

    faces = {black: [face(0), face(60)], white: [face(90), face(0)], grey: [face(0)], red: [face(90)]}
    sample = tmp_path / "0001"
    sample.mkdir()
    (sample / "meta.json").write_text(json.dumps({"prompt": "two people"}))
    for name, colour in (("out", black), ("ori", white), ("ref_1", grey), ("ref_2", red)):
        Image.new("RGB", (8, 8), colour).save(sample / f"{name}.png")
    report = evaluate_samples(tmp_path, PhotoJudge(Listed(faces), None))
    assert report["blending"]["mean"] == pytest.approx((0.0 + 0.5) / 2, abs=1e-6)
    assert report["sim_gt"]["mean"] == pytest.approx((1 + 3**0.5 / 2) / 2, abs=1e-6)
    assert report["published"]["two people"]["WithAnyone"]["blending"] == 0.079
    (sample / "ref_2.png").unlink()
    assert "blending" not in evaluate_samples(tmp_path, PhotoJudge(Listed(faces), None))


def test_a_table_of_people(tmp_path):
    for name, vectors in (("ada", -torch.ones(2, 4)), ("bo", torch.ones(2, 4))):
        Identity(f"<{name}>", vectors, (4,)).save(tmp_path / f"{name}.safetensors")
    (tmp_path / "ada").mkdir()
    for i in range(2):
        photograph("hopper").save(tmp_path / "ada" / f"{i}.jpg")
    photograph("astronaut").save(tmp_path / "bo.png")
    table = tmp_path / "people.csv"
    table.write_text("identity,photo\nada.safetensors,ada\nbo.safetensors,bo.png\n")
    ada, bo = read_people(table)
    assert (ada.identity.placeholder_token, len(ada.photos), len(bo.photos)) == ("<ada>", 2, 1)
    tabs = tmp_path / "people.tsv"
    tabs.write_text(table.read_text().replace(",", "\t"))
    assert len(read_people(tabs)) == 2
    for text, says in (
        ("name,photo\n", "must begin with a line"),
        ("identity,photo\n", "names nobody"),
        ("identity,photo\nada.safetensors,\n", "line 2"),
    ):
        table.write_text(text)
        with pytest.raises(PhotoError, match=says):
            read_people(table)


def test_people_are_folders_or_the_beginning_of_a_name(tmp_path):
    for path in ("ada/1.jpg", "ada/2.jpg", "mixed/bo__a.png", "mixed/deeper/bo__b.png", "mixed/.hidden/x__y.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    people = people_in(tmp_path)
    assert {name: len(paths) for name, paths in people.items()} == {"ada": 2, "bo": 2}
    with pytest.raises(PhotoError, match="two people or more"):
        measure_reader(PhotoReader(), {"ada": people["ada"]})


@pytest.mark.parametrize(
    "command", ["--reader-check . --clip none", "--multiid-bench . --diversity", "--reader-check . --model sd15"]
)
def test_an_option_without_effect_is_refused(command, capsys):
    assert main(["evaluate", *command.split()]) == 2
    assert "is not for --" in capsys.readouterr().err


def test_a_reader_is_checked_on_photographs(tmp_path, capsys):
    """Second photographs of two people are the first ones, mirrored and smaller."""
    for path in PHOTOS.glob("*.jpg"):
        photo = photograph(path.stem)
        photo.save(tmp_path / path.name, quality=95)
        if not path.stem.startswith("obama"):
            mirrored = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            mirrored.resize((photo.width // 2, photo.height // 2)).save(tmp_path / f"{path.stem}-mirrored.jpg")
    assert main(["evaluate", "--reader-check", str(tmp_path), "--json"]) == 0
    ours, dlib = json.loads(capsys.readouterr().out)["readers"]
    assert (ours["face_reader"], dlib["face_reader"]) == ("sface-2021dec-int8bq", "dlib-resnet-v1")
    for report in (ours, dlib):
        assert report["photos"] == 5 and report["people"] == 3 and not report["without_a_face"]
        assert report["same_person"]["pairs"] == 2 and report["different_people"]["pairs"] == 8
        assert report["equal_error_rate"] == 0
        assert report["same_person"]["least"] > report["threshold"] > report["different_people"]["largest"]

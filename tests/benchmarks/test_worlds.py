"""Photographed people as the comparison takes them: who is tuned on, who is reported, with which photograph."""

import csv
import zipfile
from pathlib import Path

import ablations
import compare
import courses
import experiment
import pytest
from groups import BEARD, GLASSES, MARKED, groups
from PIL import Image
from record import read
from work import STARS
from worlds import REPORTED, TUNED, Photographed

from celeb_basis.faces.photo import open_photo
from celeb_basis.miniature.portraits.people import celebrities, ranks

pytest.importorskip("dlib")
PHOTOS = Path(__file__).parents[1] / "photos"
OBAMA, MACRON, ARDERN = "obama__senate.jpg", "macron__2025.jpg", "ardern__2022.jpg"
# Person, picture, role, photograph: 3 and 5 are new and odd, for reports; 5 comes first, as 3 has one photograph alone.
ROWS = [
    (0, 0, "celebrity", MACRON), (1, 0, "celebrity", ARDERN), (2, 0, "new", MACRON), (2, 1, "new", ARDERN),
    (3, 0, "new", MACRON), (5, 0, "new", OBAMA), (5, 1, "new", ARDERN),
]  # fmt: skip


def written(folder: Path, rows: list[tuple[int, int, str, str]]) -> Path:
    with (folder / "portraits.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["person", "picture", "role", "gender"])
        table.writerows((*row[:3], "f" if row[3] == ARDERN else "m") for row in rows)
    with zipfile.ZipFile(folder / "portraits-crops.zip", "w") as crops:
        for person, picture, _, photo in rows:
            crops.writestr(f"{person:04d}_{picture}.jpg", (PHOTOS / photo).read_bytes())
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return written(tmp_path_factory.mktemp("portraits"), ROWS)


def same(photo: Image.Image, name: str) -> bool:
    return photo.tobytes() == open_photo(PHOTOS / name).convert("RGB").tobytes()


def test_even_people_are_for_tuning_and_odd_ones_for_reports(folder):
    world = Photographed(folder)
    assert same(world.photo(TUNED), MACRON) and same(world.photo(REPORTED), OBAMA)
    assert same(world.photo(REPORTED + 1), MACRON) and same(world.judged_by(REPORTED), OBAMA)
    for number in (TUNED + 1, REPORTED + 2):
        with pytest.raises(SystemExit, match="ask for fewer"):
            world.photo(number)


def test_another_photograph_judges_those_who_have_one(folder):
    world = Photographed(folder, another=True)
    assert same(world.photo(REPORTED), OBAMA) and same(world.judged_by(REPORTED), ARDERN)
    with pytest.raises(SystemExit):
        world.photo(REPORTED + 1)
    person = world.person(REPORTED)
    assert person.faces[0].face_reader == world.fitting_reader.name != world.evaluation_reader.name
    assert float(person.feature @ world.feature(open_photo(PHOTOS / ARDERN))) > 0.999


def test_celebrities_have_the_photographs_they_were_trained_on(folder):
    world, rank = Photographed(folder), ranks([1, 0])
    for number, photo in enumerate((MACRON, ARDERN)):
        assert same(world.star(rank[number]), photo)
    assert world.celebrity(0, REPORTED).name == celebrities()[0]


def test_prompts_say_what_the_model_knows_and_ask_for_what_can_be_seen(folder):
    world = Photographed(folder)
    assert (
        world.said("a photo of {0} sad in the desert with a red hat") == "a photo of {0} in the desert with a red hat"
    )
    assert set(world.asked("a photo of <one> smiling in the snow with a crown")) == {"style", "scene", "headwear"}


def test_groups_are_of_marked_people_for_reports_and_each_of_them_is_in_one_of_two(folder):
    genders = {person: "fm"[person % 3 > 0] for person in range(3330, 3600)}
    found = groups(genders)
    assert found["women"] | found["men"] == genders.keys() and not found["women"] & found["men"]
    assert found["with glasses"] | found["without"] == set(MARKED) & genders.keys()
    assert found["with glasses"] == GLASSES and not GLASSES & found["without"]
    assert found["men with a beard"] | found["men without"] == found["men"] & set(MARKED)
    assert all(person % 2 for person in GLASSES | BEARD)
    assert Photographed(folder).genders == {0: "m", 1: "f", 2: "f", 3: "m", 5: "f"}


def test_experiments_and_courses_run_on_photographs(tmp_path, monkeypatch, capsys):
    everybody = [(i, 0, "celebrity", MACRON) for i in range(STARS)] + [(STARS + i, 0, "new", OBAMA) for i in range(2)]
    folder = written(tmp_path, everybody)
    monkeypatch.setattr(compare, "ALONE", compare.ALONE[:2])
    monkeypatch.setattr(courses, "SHORT", courses.SHORT[:1])
    out, points = tmp_path / "rows", tmp_path / "points.jsonl"
    words = ["--portraits", str(folder), "--people", "1", "--only"]
    monkeypatch.setattr("sys.argv", ["experiment", *words, "noise of 0.1", "--out", str(out)])
    experiment.run("ablations", ablations.ABLATIONS, (1,), None)
    [rows] = read(out / "noise-of-0.1.jsonl").units.values()
    assert len(rows) == 2 and "noise of 0.1" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["courses", *words, "StableIdentity", "--longest", "25", "--out", str(points)])
    courses.main()
    assert capsys.readouterr().out.count("StableIdentity") == len(courses.RATES["StableIdentity"])

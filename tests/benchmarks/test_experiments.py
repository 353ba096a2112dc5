"""The paper's ablations and experiments: each runs, draws what it says, and continues where it stopped."""

import json

import ablations
import compare
import courses
import experiment
import interaction
import joint
import pytest
import torch
from contenders import PAPER
from model import Model
from record import read
from work import Work
from worlds import TUNED

from celeb_basis.backend.text_encoders import name_rows
from celeb_basis.fit.recipe import DEFAULTS


@pytest.fixture(scope="module")
def model():
    return Model()


@pytest.fixture(scope="module")
def work():
    return Work(2, TUNED, crowded=False)


@pytest.fixture
def few_prompts(monkeypatch):
    for name in ("PAIRED", "THREES"):
        monkeypatch.setattr(compare, name, getattr(compare, name)[:1])
    monkeypatch.setattr(compare, "ALONE", compare.ALONE[:2])


@pytest.mark.parametrize(
    ("module", "rows", "sizes", "people", "drawn"),
    [
        (ablations, ablations.ABLATIONS, (1,), 1, {"people": 8}),
        (joint, joint.JOINT, (1,), 2, {"people": 2 + 2}),
        (interaction, interaction.INTERACTION, (2, 3), 3, {"pairs": 3, "threes": 3}),
    ],
)
def test_every_experiment_runs_and_continues(
    module, rows, sizes, people, drawn, few_prompts, tmp_path, monkeypatch, capsys
):
    words = ["--people", str(people), "--steps", "1", "--first", str(TUNED), "--out", str(tmp_path / "rows")]
    monkeypatch.setattr("sys.argv", ["experiment", *words])
    together = joint.GROUPS if module is joint else None
    experiment.run("rows", rows, sizes, module.__doc__, together=together)
    text = capsys.readouterr().out
    assert text.strip() == (tmp_path / "rows.md").read_text().strip()
    found = [read(path) for path in (tmp_path / "rows").glob("*.jsonl")]
    for kind, number in drawn.items():
        assert sum(len(getattr(result, kind)) for result in found) == number
    before = {path.name: path.read_text() for path in (tmp_path / "rows").iterdir()}
    experiment.run("rows", rows, sizes, module.__doc__, together=together)
    assert before == {path.name: path.read_text() for path in (tmp_path / "rows").iterdir()}


def test_the_flattened_basis_is_of_all_tokens(model):
    own = ablations.flattened_basis(model)
    rows = name_rows(model.pipe, model.basis.names)[0].flatten(0, 1)
    assert torch.equal(own.components[0], own.components[1]) and torch.allclose(own.mean[0], rows.mean(0), atol=1e-6)
    own.check(model.pipe)


def test_one_token_is_one_of_the_two(model, work):
    for place in (0, 1):
        contender = ablations.ABLATIONS[("first", "last")[place] + " token alone"]
        start = next(contender.learn(model, work.people[:1])).vectors
        both = next(PAPER.learn(model, work.people[:1])).vectors
        assert torch.equal(start, both[:, place : place + 1])


def test_without_a_basis_vectors_have_unit_norm(model, work):
    start = next(ablations.ABLATIONS["without basis"].learn(model, work.people)).vectors
    assert start.shape == (2, 2, 128) and torch.allclose(start.norm(dim=-1), torch.ones(2, 2), atol=1e-5)


def test_noise_lies_around_the_mean(model, work):
    vectors = next(ablations.ABLATIONS["noise of 0.1"].learn(model, work.people)).vectors
    coefficients = model.basis.transform(vectors)
    assert coefficients.std() == pytest.approx(0.1, rel=0.15) and not torch.equal(vectors[0], vectors[1])


def test_a_course_has_the_published_setting_and_is_not_done_twice(tmp_path, monkeypatch, capsys):
    for name, rates in courses.RATES.items():
        contender, steps = courses.candidates(name)
        published = DEFAULTS[contender.method.name]
        assert published.max_train_steps in steps and published.learning_rate in rates
        assert contender.batch == published.train_batch_size
    monkeypatch.setattr(courses, "STEPS", (1, 2))
    monkeypatch.setattr(courses, "SHORT", courses.SHORT[:1])
    words = ["--people", "1", "--longest", "2", "--out", str(tmp_path / "courses.jsonl"), "--only", "StableIdentity"]
    monkeypatch.setattr("sys.argv", ["courses", *words])
    courses.main()
    text, before = capsys.readouterr().out, (tmp_path / "courses.jsonl").read_text()
    assert text.count("StableIdentity") == 3 * 2
    courses.main()
    assert capsys.readouterr().out == text and (tmp_path / "courses.jsonl").read_text() == before

    words[1], words[5] = "2", str(tmp_path / "together.jsonl")
    monkeypatch.setattr("sys.argv", ["courses", *words])
    courses.main()
    alone, together = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()[1:]]
        for name in ("courses.jsonl", "together.jsonl")
    )
    assert {line["person"] for line in together} == {3000, 3001}
    for line in alone:
        [same] = [other for other in together if (other["person"], other["rate"]) == (line["person"], line["rate"])]
        assert [point[2] for point in same["points"]] == pytest.approx([point[2] for point in line["points"]], abs=0.01)
    monkeypatch.setattr("sys.argv", ["courses", "--first", "4999", "--people", "2"])
    with pytest.raises(SystemExit):
        courses.main()

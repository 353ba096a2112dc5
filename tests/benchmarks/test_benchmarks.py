"""The comparison: contenders learn what they claim and leave no mark, runs go on where they stopped."""

import json
from dataclasses import replace

import compare
import pytest
import report
import torch
import work as work_module
from compare import Comparison
from conftest import state_of
from contenders import CONTENDERS, Model, worn
from PIL import Image
from work import Work, recognised

from celeb_basis import Face

PARAMETERS = {
    "Celeb Basis, refined": 2 * 64,
    "the paper's recipe": 64 * 128 + 128,
    "Textual Inversion, 1 vector": 128,
    "Textual Inversion, 1 vector, 200 steps": 128,
    "Textual Inversion, 2 vectors": 2 * 128,
    "Textual Inversion, 2 vectors, 100 steps": 2 * 128,
    "Cross Initialization": 2 * 128,
    "StableIdentity": 64 * 64 + 64 + 64 * 256 + 256,
}


@pytest.fixture(scope="module")
def model():
    return Model(class_pictures=2)


@pytest.fixture(scope="module")
def work():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work_module, "STARS", 4)
        patch.setattr(work_module, "GALLERY", 2)
        yield Work(2, work_module.TUNED)


@pytest.mark.parametrize("name", [name for name, contender in CONTENDERS.items() if contender.steps])
def test_a_contender_learns_what_it_claims_and_leaves_no_mark(model, work, name):
    before = state_of(model.pipe)
    steps = list(replace(CONTENDERS[name], steps=2).learn(model, work.people[:1]))
    assert state_of(model.pipe) == before
    assert len(steps) == 3 and steps[-1].vectors.isfinite().all()
    learnt = steps[-1]
    if learnt.unet is None:
        assert learnt.parameters == PARAMETERS[name]
        assert not learnt.vectors.equal(steps[0].vectors)
    else:
        own = model.pipe.unet.state_dict()
        trained = {key.replace("base_layer.", ""): t for key, t in learnt.unet.state_dict().items()}
        weights = sum(t.numel() for key, t in trained.items() if key not in own or not t.equal(own[key]))
        token = 128 if name == "Custom Diffusion" else 0
        assert learnt.parameters == weights + token == sum(t.numel() for t in learnt.weights.values()) + token
        with worn(model.pipe, learnt.unet):
            assert model.pipe.unet is learnt.unet
        assert state_of(model.pipe) == before


def test_people_side_by_side_are_learnt_as_if_alone(model, work):
    contender = replace(CONTENDERS["the paper's recipe"], steps=2)
    *_, together = contender.learn(model, work.people)
    *_, alone = contender.learn(model, work.people[1:])
    torch.testing.assert_close(together.of([1]).vectors, alone.vectors, atol=1e-5, rtol=1e-3)


def test_a_run_goes_on_where_it_stopped(model, work, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "ALONE", compare.ALONE[::8])
    monkeypatch.setattr(compare, "PAIRED", compare.PAIRED[:1])
    monkeypatch.setattr(compare, "SHORT", compare.SHORT[:1])
    monkeypatch.setattr(compare, "CHECKPOINTS", (0, 1))
    monkeypatch.setattr(report, "SHEET", (0, 1))
    monkeypatch.setattr(report, "SHEET_PAIRED", (0,))
    for name in (report.OURS, "DreamBooth"):
        contender = replace(CONTENDERS[name], steps=1)
        comparison = Comparison(name, contender, model, work, tmp_path / "runs", seeds=1, batch_size=8)
        before = state_of(model.pipe)
        comparison.run([0, 1], (1, 2))
        comparison.course(0)
        assert state_of(model.pipe) == before
    first, second, pair = (comparison.folder / f"{who}.json" for who in ("3000", "3001", "3000+3001"))
    times, rows = (first.stat().st_mtime_ns, pair.stat().st_mtime_ns), json.loads(second.read_text())["rows"]
    second.unlink()
    comparison.run([0, 1], (1, 2))
    assert json.loads(second.read_text())["rows"] == rows
    assert (first.stat().st_mtime_ns, pair.stat().st_mtime_ns) == times
    assert [row["kind"] for row in rows] == ["style", "scene", "with a celebrity"]

    monkeypatch.setattr("sys.argv", ["report.py", str(tmp_path / "runs")])
    report.main()
    assert "| DreamBooth | 2 |" in capsys.readouterr().out
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"runs", "runs.md", "runs-scatter.png", "runs-courses.png", "runs-sheet.png"}


def test_nobody_tunes_on_the_people_of_the_report(monkeypatch):
    monkeypatch.setattr("sys.argv", ["compare.py", "--first", "5000", "--tune", "steps=1"])
    with pytest.raises(SystemExit):
        compare.main()


def test_each_face_counts_on_its_own_side_only():
    a, b, other = torch.eye(3)

    def face(feature, x):
        return Face(Image.new("RGB", (4, 4)), (x, 0, x + 10, 10), feature)

    nobody = {"identity": 0, "rank1": 0, "found": 0, "sides": 0, "apart": 0, "bleeding": None}

    def seen(*faces):
        return recognised(faces, [a, b], [True, True], torch.eye(3), 64)

    assert seen(face(b, 40), face(a, 5)) == {
        "identity": 1, "rank1": 1, "found": 1, "sides": 1, "apart": 1, "bleeding": 0,
    }  # fmt: skip
    assert seen(face(a, 40), face(b, 5)) == {
        "identity": 0, "rank1": 0, "found": 1, "sides": 0, "apart": 1, "bleeding": 0,
    }  # fmt: skip
    mixed = torch.nn.functional.normalize(0.8 * a + 0.6 * b, dim=0)
    both_alike = seen(face(mixed, 5), face(mixed, 40))
    assert both_alike["sides"] == both_alike["apart"] == 0 and both_alike["bleeding"] == pytest.approx(0.7)
    assert seen(face(b, 40)) == nobody | {"identity": 0.5, "rank1": 0.5}
    assert seen() == nobody
    assert recognised([face(other, 5)], [a], [True], torch.eye(3), 64) == {"identity": 0, "rank1": 0, "found": 1}
    with_a_celebrity = recognised([face(a, 5), face(other, 40)], [a, b], [False, True], torch.eye(3), 64)
    assert with_a_celebrity["identity"] == 0 and with_a_celebrity["found"] == 1

"""The comparison: contenders learn what they claim and leave no mark, and a stopped run can be continued."""

import json
from dataclasses import replace

import compare
import pytest
import report
import sheets
import tables
import torch
import work as work_module
from compare import Comparison
from conftest import state_of
from contenders import CONTENDERS, OUTDATED, WithFaceLoss, settings, tuned
from model import Model, worn
from PIL import Image
from record import STORED, read, weights_of
from work import Work, from_left, recognised
from worlds import PORTRAITS, TUNED

import celeb_basis as cb
from celeb_basis import Face
from celeb_basis.backend.card import DEFAULT_MODEL

PARAMETERS = {
    "Celeb Basis, refined": 2 * 64,
    "Celeb Basis, face loss": 2 * 64,
    "the paper's recipe": 64 * 128 + 128,
    "Textual Inversion": 2 * 128,
    "Cross Initialization": 2 * 128,
    "StableIdentity": 64 * 256 + 256 * 256 + 2 * 256 + 4 * 256,
}


@pytest.fixture(scope="module")
def model():
    return Model(class_pictures=2)


@pytest.fixture(scope="module")
def work():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work_module, "STARS", 4)
        patch.setattr(work_module, "GALLERY", 2)
        yield Work(2, TUNED)


@pytest.mark.parametrize("name", [name for name, contender in CONTENDERS.items() if contender.steps])
def test_a_contender_learns_what_it_claims_and_leaves_no_mark(model, work, name):
    before = state_of(model.pipe)
    steps = list(replace(CONTENDERS[name], steps=2).learn(model, work.people[:1]))
    assert state_of(model.pipe) == before
    assert len(steps) == (5 if isinstance(CONTENDERS[name], WithFaceLoss) else 3) and steps[-1].vectors.isfinite().all()
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
    contender = replace(CONTENDERS["StableIdentity"], steps=2)
    *_, together = contender.learn(model, work.people)
    *_, alone = contender.learn(model, work.people[1:])
    torch.testing.assert_close(together.of([1]).vectors, alone.vectors, atol=1e-5, rtol=1e-3)


@pytest.fixture
def few_prompts(monkeypatch):
    monkeypatch.setattr(compare, "ALONE", compare.ALONE[::8])
    monkeypatch.setattr(compare, "PAIRED", compare.PAIRED[:1])
    monkeypatch.setattr(compare, "SHORT", compare.SHORT[:1])
    monkeypatch.setattr(compare, "CHECKPOINTS", (0, 1))


def comparison_of(name, model, work, folder):
    contender = replace(CONTENDERS[name], steps=1)
    return Comparison(name, contender, model, work, folder, seeds=1, batch_size=8)


def test_a_stopped_run_is_continued_and_reported(model, work, few_prompts, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "runs"
    for name in (tables.OURS, "DreamBooth"):
        comparison = comparison_of(name, model, work, folder)
        before = state_of(model.pipe)
        comparison.run([0, 1], (1, 2))
        comparison.course(0)
        assert state_of(model.pipe) == before
    path = comparison.record.path
    whole, result = path.read_text(), read(path)
    rows = result.people["3001"]
    assert [row["kind"] for row in rows] == ["style", "scene", "with a celebrity"]
    assert set(result.people) == {"3000", "3001"} and set(result.pairs) == {"3000+3001"}
    assert list(result.courses) == ["3000"]

    comparison_of(name, model, work, folder).run([0, 1], (1, 2))
    comparison.course(0)
    assert path.read_text() == whole  # nothing is done twice

    # The run stops in the middle of a line: what came before counts, the last person is done again.
    path.write_text(whole[: whole.index('{"done":"3001"') - 9])
    assert set(read(path).people) == {"3000"}
    comparison_of(name, model, work, folder).run([0, 1], (1, 2))
    assert read(path).people == result.people and read(path).pairs == result.pairs

    monkeypatch.setattr("sys.argv", ["report.py", str(folder)])
    report.main()
    assert "| DreamBooth | 2 |" in capsys.readouterr().out
    assert {file.name for file in tmp_path.iterdir()} == {"runs", "runs.md", "runs-scatter.png", "runs-courses.png"}


def test_results_of_other_settings_are_never_mixed(model, work, few_prompts, tmp_path):
    comparison_of(tables.OURS, model, work, tmp_path)
    other = tuned(CONTENDERS[tables.OURS], {"steps": 1, "max_radius": 2.0})
    with pytest.raises(SystemExit, match="other settings"):
        Comparison(tables.OURS, other, model, work, tmp_path, seeds=1, batch_size=8)


def test_sheets_are_drawn_from_the_same_people(model, work, tmp_path, monkeypatch):
    monkeypatch.setattr(sheets, "EVERYBODY", {name: replace(c, steps=1) for name, c in fitted().items()})
    monkeypatch.setattr(sheets, "ALONE", sheets.ALONE[:1])
    monkeypatch.setattr(sheets, "PAIRED", sheets.PAIRED[:1])
    monkeypatch.setattr(sheets, "OF_ONE", (0,))
    monkeypatch.setattr(sheets, "OF_TWO", (0,))
    monkeypatch.setattr(sheets, "SHOWN", 1)
    artist = sheets.Artist(1, model, work)
    sheets.side_by_side(artist, sheets.COLUMNS[:2], tmp_path / "sheet.png", "a caption")
    sheets.pairs(artist, tmp_path / "pairs.png", "a caption")
    for name in ("sheet.png", "pairs.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 300


def fitted():
    return {name: contender for name, contender in sheets.EVERYBODY.items() if name in sheets.COLUMNS}


def test_stored_results_are_of_the_settings_that_a_run_would_have(model):
    for path in STORED.glob("*.jsonl"):
        header = read(path).header
        same = header["settings"] == json.loads(json.dumps(settings(sheets.EVERYBODY[header["name"]])))
        assert same == (header["name"] not in OUTDATED), "what is outdated is drawn anew, and nothing else"


@pytest.mark.parametrize(("folder", "shipped"), [(STORED, DEFAULT_MODEL), (STORED / PORTRAITS, PORTRAITS)])
def test_stored_results_are_of_the_weights_that_ship(folder, shipped):
    weights = weights_of(cb.Model.load(shipped, dtype=torch.float32).pipe)
    assert {read(path).header["weights"] for path in folder.glob("*.jsonl")} == {weights}


@pytest.fixture(scope="module")
def stored():
    """Results and tables of drawn and of photographed people."""
    return {folder: (results := tables.load(folder), tables.made(results)) for folder in (STORED, STORED / PORTRAITS)}


@pytest.mark.parametrize("document", ["docs/results.md", "README.md"])
def test_tables_in_documents_are_those_of_the_stored_results(stored, document):
    text = (report.REPOSITORY / document).read_text()
    if "<!-- table: " not in text:
        pytest.skip(f"{document} has no marked tables")
    shown = report.documented(*(made for _, made in stored.values()))
    assert report.filled(text, shown) == text, "run python benchmarks report"


@pytest.mark.parametrize("folder", [STORED, STORED / PORTRAITS], ids=lambda folder: folder.name)
def test_the_overview_is_that_of_the_stored_results(stored, folder):
    assert report.overview(*stored[folder]) == folder.with_suffix(".md").read_text(), "run python benchmarks report"


def test_nobody_tunes_on_the_people_of_the_report(monkeypatch):
    monkeypatch.setattr("sys.argv", ["compare.py", "--first", "5000", "--tune", "steps=1"])
    with pytest.raises(SystemExit):
        compare.main()


def test_people_stand_where_the_prompt_puts_them():
    assert from_left("a photo of {1} and {0} on the beach") == [1, 0]
    assert from_left("a photo of {0} on the right and {1} on the left in the desert") == [1, 0]
    assert from_left("a photo of {2} in the middle and {0} on the right and {1} on the left") == [1, 2, 0]


def test_each_face_counts_on_its_own_side_only():
    a, b, other = torch.eye(3)

    def face(feature, x):
        return Face(Image.new("RGB", (4, 4)), (x, 0, x + 10, 10), feature)

    nobody = {"identity": 0, "rank1": 0, "found": 0, "sides": 0, "apart": 0, "bleeding": None, "photographs": 0}

    def seen(*faces):
        return recognised(faces, [a, b], [True, True], torch.eye(3), 64)

    assert seen(face(b, 40), face(a, 5)) == {
        "identity": 1, "rank1": 1, "found": 1, "sides": 1, "apart": 1, "bleeding": 0, "photographs": 0,
    }  # fmt: skip
    assert seen(face(a, 40), face(b, 5)) == {
        "identity": 0, "rank1": 0, "found": 1, "sides": 0, "apart": 1, "bleeding": 0, "photographs": 0,
    }  # fmt: skip
    mixed = torch.nn.functional.normalize(0.8 * a + 0.6 * b, dim=0)
    both_alike = seen(face(mixed, 5), face(mixed, 40))
    assert both_alike["sides"] == both_alike["apart"] == 0 and both_alike["bleeding"] == pytest.approx(0.7)
    assert seen(face(b, 40)) == nobody | {"identity": 0.5, "rank1": 0.5}
    assert seen() == nobody

    def of_three(*faces):
        return recognised(faces, [a, b, other], [True, True, True], torch.eye(3), 60)

    assert of_three(face(b, 25), face(other, 45), face(a, 5))["sides"] == 1
    swapped = of_three(face(b, 5), face(a, 25), face(other, 45))
    assert (swapped["sides"], swapped["apart"], swapped["bleeding"]) == (0, 1, 0)
    assert swapped["identity"] == pytest.approx(1 / 3)
    assert of_three(face(other, 45))["identity"] == pytest.approx(1 / 3)
    assert recognised([face(other, 5)], [a], [True], torch.eye(3), 64) == {"identity": 0, "rank1": 0, "found": 1}
    with_a_celebrity = recognised([face(a, 5), face(other, 40)], [a, b], [False, True], torch.eye(3), 64)
    assert with_a_celebrity["identity"] == 0 and with_a_celebrity["found"] == 1

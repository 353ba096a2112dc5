"""The sample command: traits, and several people who are like nobody else."""

import json

import pytest
import torch
from called import answer, complaint
from conftest import NAMES, make_pipeline

from celeb_basis import CelebBasis, Face, Identity, Model
from celeb_basis.cli import main
from celeb_basis.directions import Directions
from celeb_basis.known_names import Portraits


class Shades:
    """A reader to whom every picture is a face; bright and red are its traits."""

    name = "shades"

    def read(self, images):
        return [[Face(image, (0, 0, *image.size), self._feature(image), self.name)] for image in images]

    def _feature(self, image):
        pixels = torch.tensor(list(image.convert("RGB").resize((2, 2)).tobytes()), dtype=torch.float32)
        return torch.nn.functional.normalize(torch.cat([pixels - 127, torch.ones(1)]), dim=0)

    def trait_rows(self):
        return {"bright": torch.ones(13), "red": torch.tensor([1.0, 0, 0] * 4 + [0])}


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A folder with a tiny model whose faces Shades reads, and one with its basis and two directions of traits."""
    monkeypatch.setattr("celeb_basis.model.get_face_reader", lambda pipe, name=None: Shades())
    monkeypatch.chdir(tmp_path)
    pipe = make_pipeline("sd1")
    pipe.save_pretrained("sd")
    # The usual prompts are too long for its few words.
    (tmp_path / "sd/celeb_basis.json").write_text('{"portraits": ["a photo of {}", "the face of {}"]}')
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    basis.save("b.safetensors")
    g = torch.Generator().manual_seed(0)
    people = torch.randn(60, 2, 7, generator=g) * basis.sigma
    readings = (people / basis.sigma)[:, 0, :2]
    Directions.fit(readings, people, ["glasses", "long-hair"], basis=basis, seen_by="test").save(
        "b.directions.safetensors"
    )
    return basis


def test_more_of_a_trait_moves_a_person_along_its_direction(model, capsys):
    plain = answer(capsys, "sample", "--name", "eve", "--basis", "b.safetensors", "-o", "plain.safetensors")
    more = answer(
        capsys, "sample", "--name", "eve", "--basis", "b.safetensors", "--more", "glasses=1.5", "long-hair=-1"
    )
    assert "more" not in plain and more["more"] == "glasses=1.5 long-hair=-1"
    people = [Identity.load(file).coefficients(model) for file in ("plain.safetensors", "eve.safetensors")]
    directions = Directions.load("b.directions.safetensors")
    expected = 1.5 * directions.of(model, "glasses").coefficients - directions.of(model, "long-hair").coefficients
    assert torch.allclose(people[1] - people[0], expected, atol=1e-4)
    assert torch.equal(people[0], Identity.sample(model, "<eve>", torch.Generator().manual_seed(0)).coefficients(model))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--basis b.safetensors --more smile=1", "no trait 'smile': there are glasses, long-hair (--more)"),
        ("--basis b.safetensors --more glasses", "'glasses' is not TRAIT=AMOUNT"),
        ("--basis b.safetensors --more glasses=9", "a number from -5 to 5"),
        ("--basis b.safetensors --more glasses=nan", "a number from -5 to 5"),
        ("--basis b.safetensors --more glasses=1 glasses=2", "glasses is there twice"),
        ("--model portraits --more glasses=1", "portraits has no directions of traits: learn them"),
        ("--model no/model --more glasses=1", "no/model has no directions of traits: learn them"),
        ("--unlike .3", "--unlike is for --cast"),
        ("--face-reader dlib", "--face-reader is for --cast"),
        ("--cast 0", "whole number of 1 or more"),
        ("--cast 101", "at most 100 people"),
        ("--cast 2 --unlike 1.5", "not a cosine"),
        ("--cast 2 -o people.safetensors", "name a folder"),
        ("--cast 2 --model portraits", "portraits has no faces of its celebrities"),
        ("--cast 2 --basis b.safetensors", "no faces of its celebrities"),
    ],
)
def test_what_cannot_be_is_one_line(model, words, says, capsys):
    assert says in complaint(capsys, "sample", "--name", "eve", *words.split())


def test_directions_of_another_basis_are_refused(model, tmp_path, capsys):
    CelebBasis.from_pipeline(make_pipeline("sd1"), NAMES[:15]).save("c.safetensors")
    (tmp_path / "b.directions.safetensors").rename("c.directions.safetensors")
    assert "another basis" in complaint(
        capsys, "sample", "--name", "e", "--basis", "c.safetensors", "--more", "glasses=1"
    )


def test_a_folder_gets_faces_and_directions_and_then_a_cast(model, tmp_path, capsys):
    """Random weights draw noise, in which names may hold nothing of a trait: that is said, and the rest stays."""
    again = ["basis", "--model", "sd", "--names", "names.txt", "--directions", "--steps", 2, "-o", "own"]
    report = answer(capsys, *again)
    assert {*report.get("traits", {}), *report["traits_left_out"]} == {"bright", "red"}
    card = json.loads((tmp_path / "own/celeb_basis.json").read_text())
    assert card["faces"] == "faces.safetensors" and ("directions" in card) == ("traits" in report)
    drawn = Portraits.load("own/faces.safetensors")
    assert drawn.names == tuple(NAMES) and drawn.num_images.tolist() == [2] * len(NAMES)
    before = (tmp_path / "own/faces.safetensors").stat().st_mtime_ns
    assert answer(capsys, *again) == report
    assert (tmp_path / "own/faces.safetensors").stat().st_mtime_ns == before  # nothing was drawn again

    people = ["sample", "--name", "extra", "--model", "sd", "--basis", "own", "-o"]
    report = answer(capsys, *people, "people", "--cast", 2, "--unlike", 1)
    files = sorted((tmp_path / "people").iterdir())
    assert [file.name for file in files] == ["extra-1.safetensors", "extra-2.safetensors"]
    assert [each["file"] for each in report["cosines"]] == [str(file.relative_to(tmp_path)) for file in files]
    assert all(each["own_pictures"] >= report["least_of_own_pictures"] for each in report["cosines"])
    assert "0 of 1 people were found" in complaint(capsys, *people, "nobody", "--cast", 1, "--unlike", -1)
    assert not (tmp_path / "nobody").exists()


def test_the_clip_of_traits_is_named_where_it_is_missing(model, monkeypatch, capsys):
    monkeypatch.delattr(Shades, "trait_rows")
    says = complaint(
        capsys, "basis", "--model", "sd", "--names", "names.txt", "--directions", "--clip", "./no-clip", "-o", "own"
    )
    assert "the CLIP ./no-clip cannot be loaded" in says
    assert "--clip is for --directions" in complaint(capsys, "basis", "--clip", "./no-clip")


def test_the_miniature_moves_its_people(tmp_path, capsys):
    model = Model.load("miniature")
    assert model.directions is not None and "glasses" in model.directions.traits
    out = tmp_path / "eve.safetensors"
    assert main(["sample", "--name", "eve", "--more", "glasses=1", "-o", str(out), "--json"]) == 0
    moved = Identity.load(out).coefficients(model.basis) - model.sample("eve").coefficients(model.basis)
    glasses = model.directions.of(model.basis, "glasses")
    assert torch.allclose(moved, glasses.coefficients, atol=1e-4)
    assert torch.equal(model.sample("eve", more={"glasses": 1}).vectors, Identity.load(out).vectors)

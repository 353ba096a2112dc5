"""The card beside a model: what it may say, and what a model with one can do."""

import json

import pytest
import torch
from conftest import NAMES, make_pipeline

from celeb_basis import CelebBasis, InstantMap, ModelCard, ModelError
from celeb_basis.backend.card import DEFAULT_MODEL, FILE
from celeb_basis.backend.families import get_denoiser
from celeb_basis.backend.load import load_pipeline
from celeb_basis.cli import main
from celeb_basis.faces.reader import get_face_reader
from celeb_basis.generate import generate


def lay(folder, **values):
    (folder / FILE).write_text(json.dumps(values))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny model in a folder, with a basis and an instant map beside it."""
    folder = tmp_path_factory.mktemp("models") / "sd"
    pipe = make_pipeline("sd1")
    pipe.save_pretrained(folder)
    basis = CelebBasis.from_pipeline(pipe, NAMES, n_components=4)
    basis.save(folder / "basis.safetensors")
    features = torch.nn.functional.normalize(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    coefficients = (features @ torch.randn(3, 8, generator=torch.Generator().manual_seed(1))).view(20, 2, 4)
    instant_map = InstantMap.fit(features, coefficients, basis=basis, face_reader="test")
    instant_map.save(folder / "map.safetensors")
    return folder


@pytest.fixture
def folder(saved):
    yield saved
    (saved / FILE).unlink(missing_ok=True)


def test_without_a_file_a_card_is_empty(folder):
    assert ModelCard.of(folder) == ModelCard() == ModelCard.of("owner/model")


def test_a_card_brings_basis_and_map(folder, tmp_path, capsys):
    assert main(["sample", "--name", "zad", "--model", str(folder), "-o", str(tmp_path / "zad.safetensors")]) == 2
    assert "0 of 4730 names are two tokens in this model" in capsys.readouterr().err
    lay(folder, basis="basis.safetensors", instant_map="map.safetensors")
    card = ModelCard.of(folder)
    assert CelebBasis.load(card.basis).n_components == 4
    InstantMap.load(card.instant_map).check(CelebBasis.load(card.basis))
    assert main(["sample", "--name", "zad", "--model", str(folder), "-o", str(tmp_path / "zad.safetensors")]) == 0


def test_a_card_decides_steps_and_sampler(folder):
    lay(folder, num_inference_steps=3, guidance_scale=2, sampler="unipc")
    pipe = load_pipeline(folder, device="cpu")
    assert type(pipe.scheduler).__name__ == "UniPCMultistepScheduler"
    assert pipe.scheduler.config.prediction_type == "epsilon"
    generate(pipe, "a photo")
    assert pipe.scheduler.num_inference_steps == 3


def test_a_card_decides_the_size_of_pictures(folder):
    lay(folder, resolution=24, num_inference_steps=1)
    pipe = load_pipeline(folder, device="cpu")
    assert get_denoiser(pipe).resolution == 24
    assert generate(pipe, "a photo")[0].size == (24, 24)
    assert generate(pipe, "a photo", width=16)[0].size == (16, 24)


def test_a_card_lies_beside_a_single_file(folder, tmp_path):
    (tmp_path / f"model.{FILE}").write_text('{"guidance_scale": 4.5}')
    assert ModelCard.of(tmp_path / "model.safetensors").guidance_scale == 4.5


def test_the_miniature_is_a_folder_with_a_card():
    card = ModelCard.of(DEFAULT_MODEL)
    assert card.basis.is_file() and card.instant_map.is_file() and card.judge == "miniature"
    pipe = load_pipeline(DEFAULT_MODEL)
    assert pipe.card == card
    assert get_face_reader(pipe).name == InstantMap.load(card.instant_map).face_reader


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1]", "one JSON object"),
        ('{"methods": [1]}', "methods must be an object"),
        ('{"methods": {"paper": 1}}', "methods of paper must be an object"),
        ('{"methods": {"paper": {"rate": 1}}}', "methods of paper has 'rate'"),
        ('{"methods": {"paper": {"learning_rate": 1e9}}}', "learning_rate=1000000000.0 must be a number"),
        ("{", "is no model card"),
        ("[" * 100_000, "is no model card"),
        ('{"steps": 3}', "'steps' is no field"),
        ('{"num_inference_steps": 0}', "from 1 to"),
        ('{"num_inference_steps": 1000000000}', "from 1 to"),
        ('{"num_inference_steps": 2.5}', "whole number"),
        ('{"num_inference_steps": true}', "whole number"),
        ('{"guidance_scale": NaN}', "guidance_scale"),
        ('{"resolution": 100}', "multiple of 8"),
        ('{"resolution": 128.0}', "multiple of 8"),
        ('{"sampler": "magic"}', "one of ddim"),
        ('{"sampler": ["ddim"]}', "one of ddim"),
        ('{"templates": 3}', "templates must be prompts"),
        ('{"scales": true}', "scales"),
        ('{"templates": ["a photo"]}', "templates must be prompts"),
        ('{"templates": []}', "templates must be prompts"),
        *(
            (json.dumps({field: [template]}), f"{field} must be prompts")
            for field in ("templates", "portraits")
            for template in (
                "{} {x}",
                "{} {0}",
                "{} {",
                "{} }",
                "{{}}",
                "{:>1000000000} {}",
                "{:{}}",
                "{!z} {}",
                "{} {}",
                "}{",
                ["{}"],
            )
        ),
        ('{"portraits": "a photo of {}"}', "portraits must be prompts"),
        ('{"scales": [0]}', "scales"),
        ('{"face_reader": 3}', "face_reader"),
        ('{"basis": "../basis.safetensors"}', "same folder"),
        ('{"basis": "/etc/passwd"}', "same folder"),
        ('{"basis": "nothing.safetensors"}', "there is no"),
        (f'{{"basis": "{"x" * 5000}"}}', "there is no"),
        ('{"instant_map": "map.safetensors"}', "needs the basis"),
        ('{"directions": "map.safetensors"}', "needs the basis"),
        ('{"faces": "../faces.safetensors"}', "same folder"),
    ],
)
def test_cards_that_cannot_be_meant(folder, content, says):
    (folder / FILE).write_text(content)
    with pytest.raises(ModelError, match=says) as error:
        ModelCard.of(folder)
    assert "\n" not in str(error.value) and FILE in str(error.value)

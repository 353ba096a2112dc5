"""Models that are not whole, and weights that are no numbers: each is one line that names the part."""

import json
import shutil

import pytest
from conftest import make_pipeline
from safetensors.torch import load_file, save_file

from celeb_basis import ModelError
from celeb_basis.backend.load import load_pipeline


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def whole(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    make_pipeline(request.param).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "model")


def change(folder, part, deed):
    file = next((folder / part).glob("*.safetensors"))
    tensors = load_file(file)
    deed(tensors)
    save_file(tensors, file, {"format": "pt"})


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_missing_weight_is_named(folder, part):
    name = []
    change(folder, part, lambda tensors: name.append(tensors.popitem()[0]))
    with pytest.raises(ModelError, match=rf"{part} .*") as error:
        load_pipeline(folder, device="cpu")
    assert name[0].split(".")[-2] in str(error.value) and "\n" not in str(error.value)


def test_the_second_text_encoder_is_looked_through_too(folder):
    if not (folder / "text_encoder_2").exists():
        pytest.skip("this model has one text encoder")
    change(folder, "text_encoder_2", lambda tensors: tensors.popitem())
    with pytest.raises(ModelError, match=r"text_encoder_2 of .* lacks 1 of its weights"):
        load_pipeline(folder, device="cpu")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(folder, part, value):
    change(folder, part, lambda tensors: next(iter(tensors.values())).view(-1)[:1].fill_(value))
    with pytest.raises(ModelError, match=f"the {part} of .* holds weights that are no finite numbers"):
        load_pipeline(folder, device="cpu")


def test_names_of_weights_may_be_longer_in_the_file(folder):
    """Models saved by older versions of transformers call them text_model.*."""

    def rename(tensors):
        for name in [*tensors]:
            tensors[f"text_model.{name.removeprefix('text_model.')}"] = tensors.pop(name)

    change(folder, "text_encoder", rename)
    assert load_pipeline(folder, device="cpu").text_encoder is not None


@pytest.mark.parametrize("size", [None, 0, 10**9, "64"])
def test_a_size_that_cannot_be_is_refused(folder, size):
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sample_size": size}))
    with pytest.raises(ModelError, match="sample_size"):
        load_pipeline(folder, device="cpu")


def test_a_model_without_its_tokenizer_is_refused(folder):
    shutil.rmtree(folder / "tokenizer")
    (folder / "tokenizer").mkdir()
    with pytest.raises(ModelError, match="token"):
        load_pipeline(folder, device="cpu")


def test_json_nested_without_end_is_refused_at_once(folder):
    (folder / "tokenizer" / "tokenizer.json").write_text('{"model":' * 200 + "1" + "}" * 200)
    with pytest.raises(ModelError, match="nested more than 32 deep"):
        load_pipeline(folder, device="cpu")


def test_a_device_without_numbers_is_refused():
    with pytest.raises(ModelError, match="there is no device 'meta' here"):
        load_pipeline("miniature", device="meta")


def test_a_path_is_not_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("diffusers.DiffusionPipeline.download", lambda *a, **k: pytest.fail("the hub was asked"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for name in ("models/sd15", "./sd15", "../sd15"):
        with pytest.raises(ModelError, match=r"no model .* is here"):
            load_pipeline(name)

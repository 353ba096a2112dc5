"""Models that are not whole, and weights that are no numbers: each is one line that names the part."""

import json
import shutil

import pytest
import torch
from conftest import make_pipeline
from safetensors.torch import load_file, save_file

from celeb_basis import Identity, ModelError
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


def configure(folder, file, **values):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    "value", [[None, None], [], ["diffusers"], ["diffusers", None], ["diffusers", ["X"]], {}, [1, 2], ["os", "system"]]
)
def test_a_part_that_is_none_is_refused(folder, part, value):
    configure(folder, "model_index.json", **{part: value})
    with pytest.raises(ModelError, match=r"get the model again|cannot be loaded") as error:
        load_pipeline(folder, device="cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [None, ["StableDiffusionPipeline"], 3, {}, "", "Nope", "AutoencoderKL"])
def test_a_pipeline_of_no_class_is_refused(folder, value):
    configure(folder, "model_index.json", _class_name=value)
    with pytest.raises(ModelError):
        load_pipeline(folder, device="cpu")


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "null", "{", '{"unet":' + "[" * 99 + "]" * 99 + "}"])
def test_a_damaged_index_is_refused(folder, text):
    (folder / "model_index.json").write_text(text)
    with pytest.raises(ModelError, match=r"model_index\.json"):
        load_pipeline(folder, device="cpu")


@pytest.mark.parametrize(
    ("file", "values", "says"),
    [
        ("text_encoder/config.json", {"eos_token_id": None}, "eos_token_id"),
        ("text_encoder/config.json", {"eos_token_id": [1]}, "eos_token_id"),
        ("scheduler/scheduler_config.json", {"timestep_spacing": "x"}, "timestep_spacing"),
        ("scheduler/scheduler_config.json", {"timestep_spacing": None}, "timestep_spacing"),
        ("scheduler/scheduler_config.json", {"trained_betas": [0.1]}, "1 betas for 1000 timesteps"),
    ],
)
def test_settings_with_which_nothing_is_drawn_are_refused(folder, file, values, says):
    configure(folder, file, **values)
    with pytest.raises(ModelError, match=says):
        load_pipeline(folder, device="cpu")


def test_weights_of_one_variant_alone_are_named(folder):
    for part in ("vae", "unet", "text_encoder"):
        [file] = (folder / part).glob("*.safetensors")
        file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))
    with pytest.raises(ModelError, match="as fp16 alone: ask for that variant") as error:
        load_pipeline(folder, device="cpu")
    assert error.value.argument == "variant"


def test_weights_that_are_pickles_alone_are_refused(folder):
    [file] = (folder / "unet").glob("*.safetensors")
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(ModelError, match=r"unet as a pickle, .* convert it to \.safetensors"):
        load_pipeline(folder, device="cpu")


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        (["lora_unet_down_blocks_0.lora_up.weight", "lora_te_x.alpha"], "a LoRA"),
        (["unet.down_blocks.0.attn1.to_q.lora_A.weight"], "a LoRA"),
        (["transformer.x.lora.down.weight"], "a LoRA"),
        (["lycoris_x.hada_w1_a"], "a LoRA"),
        (["emb_params"], "an embedding"),
        (["clip_l", "clip_g"], "an embedding"),
    ],
)
def test_a_file_that_holds_no_model_says_what_it_holds(tmp_path, keys, what):
    save_file({key: torch.ones(2, 8) for key in keys}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=f"is {what}, no model: name the model"):
        load_pipeline(tmp_path / "x.safetensors")


def test_an_identity_is_no_model(tmp_path):
    Identity("<ada>", torch.ones(2, 8), (8,)).save(tmp_path / "ada.safetensors")
    with pytest.raises(ModelError, match="of the kind 'identity 1', no model"):
        load_pipeline(tmp_path / "ada.safetensors")


@pytest.mark.parametrize(
    "name", ["a" * 100 + "/" + "b" * 95, "a--b/c", "a/b..c", "a/b.git", "a-/b", "a/-b", "a/ééé", "a/..", "a\0/b"]
)
def test_what_no_model_of_the_hub_is_called_is_not_asked_for(name):
    with pytest.raises(ModelError, match=r"no model .* is here: name a folder") as error:
        load_pipeline(name)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("device", ["cuda:99", "privateuseone", "hpu:0", "vulkan", "nope", "", "cpu:-1"])
def test_a_device_that_does_not_exist_is_refused(device):
    with pytest.raises(ModelError, match="there is no device") as error:
        load_pipeline("miniature", device=device)
    assert error.value.argument == "device"


def test_an_offline_hub_is_told_in_whole_sentences(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="connect to the network, or name a folder") as error:
        load_pipeline("nobody/has-this-model")
    told = error.value.message
    assert told.endswith(")") and told.count("(") == told.count(")") and "stacktrace" not in told

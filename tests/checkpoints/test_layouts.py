"""How published checkpoints lie on a disk: the hub's cache, variants, pieces, and single files."""

import json
import os
import shutil

import pytest
import torch
from hub import cache_folder
from original_layout import original_layout
from published import build
from safetensors.torch import load_file, save_file

from celeb_basis import ModelError
from celeb_basis.backend.load import load_pipeline

TEXTS = {"stable-diffusion-v1-5": ("clip",), "stable-diffusion-xl-base-1.0": ("clip", "open_clip"),
         "stable-diffusion-2-1": ("open_clip",)}  # fmt: skip


@pytest.fixture(scope="module", params=["stable-diffusion-v1-5", "stable-diffusion-xl-base-1.0", "FLUX.1-dev"])
def folder(request, tmp_path_factory):
    return build(request.param, tmp_path_factory.mktemp("layouts"))


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / folder.name)


def weights(pipe):
    """Of every part but the safety checker, by name."""
    parts = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    parts.pop("safety_checker", None)
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}


def load(model, **options):
    return load_pipeline(model, device="cpu", **{"dtype": torch.float32} | options)


def same(pipe, other, tolerance=0.0):
    one, two = weights(pipe), weights(other)
    return one.keys() == two.keys() and all(
        torch.allclose(one[key].float(), two[key].float(), rtol=tolerance, atol=tolerance) for key in one
    )


def put_into_cache(cache, repository, source):
    """A repository as the hub's cache holds it: files under their digests, and links to them."""
    import hashlib

    snapshot = cache_folder(cache, repository)
    blobs = snapshot.parents[1] / "blobs"
    blobs.mkdir()
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        content = file.read_bytes()
        plain = hashlib.sha1(f"blob {len(content)}\0".encode() + content)
        digest = (hashlib.sha256(content) if file.suffix == ".safetensors" else plain).hexdigest()
        (blobs / digest).write_bytes(content)
        link = snapshot / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blobs / digest, link.parent))
    return snapshot


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """The hub's cache, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def halve(folder, name="fp16", keep=True):
    """Lay the weights in half precision beside the whole ones, as repositories do, or in their place."""
    for file in sorted(folder.rglob("*.safetensors")):
        half = {key: value.half() for key, value in load_file(file).items()}
        save_file(half, file.with_name(f"{file.stem}.{name}.safetensors"), {"format": "pt"})
        if not keep:
            file.unlink()


def test_a_repository_in_the_cache_needs_no_network(folder, offline):
    """With the files beside it that are not to be read."""
    snapshot = put_into_cache(offline, "owner/model", folder)
    for place in ("unet", "vae", "text_encoder"):
        if (snapshot / place).is_dir():
            (snapshot / place / "diffusion_pytorch_model.non_ema.bin").write_bytes(b"no real pickle")
            (snapshot / place / "pytorch_model.bin").write_bytes(b"no real pickle")
    (snapshot / "v1-5-pruned.ckpt").write_bytes(b"no real pickle")
    assert same(load("owner/model"), load(folder))
    with pytest.raises(ModelError, match="connect to the network"):
        load("owner/another")


def test_a_variant_is_read_where_it_is_asked_for(copy, folder, offline):
    halve(copy)
    put_into_cache(offline, "owner/model", copy)
    assert same(load(copy), load(folder))
    assert same(load(copy, variant="fp16"), load(folder), 1e-3) and not same(load(copy, variant="fp16"), load(folder))
    assert same(load("owner/model", variant="fp16"), load(copy, variant="fp16"))


def test_a_variant_that_is_there_alone_has_to_be_asked_for(copy, folder, offline):
    halve(copy, keep=False)
    put_into_cache(offline, "owner/model", copy)
    for model in (copy, "owner/model"):
        with pytest.raises(ModelError, match="fp16") as refused:
            load(model)
        assert refused.value.argument == "variant" and "\n" not in str(refused.value)
        assert same(load(model, variant="fp16"), load(folder), 1e-3)


def test_weights_may_be_in_pieces(folder, tmp_path):
    whole = load(folder)
    shutil.copytree(folder, tmp_path / "pieces", ignore=shutil.ignore_patterns("*.safetensors"))
    for name, part in whole.components.items():
        if isinstance(part, torch.nn.Module):
            config = (tmp_path / "pieces" / name / "config.json").read_text()
            part.save_pretrained(tmp_path / "pieces" / name, max_shard_size="20KB")
            (tmp_path / "pieces" / name / "config.json").write_text(config)
    assert len(list((tmp_path / "pieces").rglob("*-of-*.safetensors"))) > 6
    assert same(load(tmp_path / "pieces"), whole)
    piece = sorted((tmp_path / "pieces" / "vae").glob("*-of-*.safetensors"))[0]
    piece.unlink()
    with pytest.raises(ModelError) as refused:
        load(tmp_path / "pieces")
    assert "\n" not in str(refused.value)


def test_a_safety_checker_without_weights_is_refused_or_left_out(tmp_path):
    folder = build("stable-diffusion-v1-5", tmp_path)
    for file in (folder / "safety_checker").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ModelError) as refused:
        load(folder)
    assert "holds no weights of it: get the model again, or load it without the checker" in str(refused.value)
    assert load(folder, safety_checker=False).safety_checker is None
    shutil.rmtree(folder / "safety_checker")
    assert load(folder, safety_checker=False).safety_checker is None


# Single files


@pytest.fixture(scope="module", params=TEXTS)
def original(request, tmp_path_factory):
    """A checkpoint's folder, its pipeline, and its weights as its makers name them."""
    folder = build(request.param, tmp_path_factory.mktemp("single"))
    pipe = load(folder, safety_checker=False)
    return folder, pipe, original_layout(pipe, TEXTS[request.param])


def extras(name):
    """What real files hold beside the weights."""
    if "xl" in name:
        return {
            "conditioner.embedders.1.model.logit_scale": torch.tensor(4.6),
            "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
            "denoiser.sigmas": torch.rand(1000),
        }
    if "2-1" in name:
        return {"cond_stage_model.model.logit_scale": torch.tensor(4.6)}
    return {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None]}


def ema(tensors):
    """The running means that training keeps, which are other weights."""
    kept = {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(1)}
    for key, value in tensors.items():
        if key.startswith("model.diffusion_model"):
            kept["model_ema." + key.removeprefix("model.").replace(".", "")] = value * 1.5
    return kept


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 1e-2), (torch.float8_e4m3fn, 0.1)],
)
def test_a_single_file_of_any_precision(original, dtype, tolerance, tmp_path):
    """With all that kohya's and ComfyUI's files hold beside the weights."""
    folder, pipe, tensors = original
    schedule = {name: torch.rand(1000) for name in ("betas", "alphas_cumprod", "sqrt_alphas_cumprod")}
    everything = tensors | ema(tensors) | schedule | extras(folder.name)
    cast = {key: value.to(dtype) if value.is_floating_point() else value for key, value in everything.items()}
    save_file({key: value.contiguous() for key, value in cast.items()}, tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors", config=folder)
    assert same(loaded, pipe, tolerance)
    assert loaded.scheduler.config.prediction_type == pipe.scheduler.config.prediction_type
    assert loaded.unet.dtype == torch.float32


@pytest.mark.parametrize("part", ["first_stage_model.", "model.diffusion_model.", "con"])
def test_a_single_file_without_a_part_is_refused(original, part, tmp_path):
    folder, _, tensors = original
    save_file({key: v for key, v in tensors.items() if not key.startswith(part)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError) as refused:
        load(tmp_path / "model.safetensors", config=folder)
    assert "\n" not in str(refused.value)


def test_a_single_file_with_the_configuration_of_another_is_refused(tmp_path):
    one, two = (build(name, tmp_path) for name in ("stable-diffusion-v1-5", "stable-diffusion-xl-base-1.0"))
    for own, other in ((one, two), (two, one)):
        pipe = load(own, safety_checker=False)
        save_file(original_layout(pipe, TEXTS[own.name]), tmp_path / "model.safetensors")
        with pytest.raises(ModelError) as refused:
            load(tmp_path / "model.safetensors", config=other)
        assert "\n" not in str(refused.value)


def test_an_inpainting_file_is_refused(tmp_path):
    folder = build("stable-diffusion-v1-5", tmp_path)
    tensors = original_layout(load(folder, safety_checker=False), ("clip",))
    first = tensors["model.diffusion_model.input_blocks.0.0.weight"]
    wide = torch.cat([first, first, first[:, :1]], dim=1)
    save_file(tensors | {"model.diffusion_model.input_blocks.0.0.weight": wide}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError) as refused:
        load(tmp_path / "model.safetensors", config=folder)
    assert "\n" not in str(refused.value)


def test_a_file_with_a_transformer_alone(tmp_path):
    folder = build("FLUX.1-dev", tmp_path)
    pipe = load(folder)
    save_file({k: v.contiguous() for k, v in pipe.transformer.state_dict().items()}, tmp_path / "flux.safetensors")
    assert same(load(tmp_path / "flux.safetensors", config=folder), pipe)
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == "FluxPipeline"

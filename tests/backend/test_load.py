import shutil

import pytest
import torch
from conftest import make_pipeline, state_of
from fits import fit_identity
from hub import cache_folder, commit, serve, visit
from original_layout import original_layout
from PIL import Image
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from celeb_basis import Face, ModelError
from celeb_basis.backend.families import FAMILIES
from celeb_basis.backend.load import _dtype, load_pipeline
from celeb_basis.backend.pipeline import model_name
from celeb_basis.backend.text_encoders import fingerprint
from celeb_basis.faces.reader import get_face_reader
from celeb_basis.generate import generate

LAYOUTS = {"sd1": ("clip",), "sd2": ("open_clip",), "sdxl": ("clip", "open_clip")}


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_folder_is_loaded_frozen(tmp_path, kind):
    original = make_pipeline(kind)
    original.save_pretrained(tmp_path)
    pipe = load_pipeline(tmp_path, device="cpu")
    assert model_name(pipe) == str(tmp_path)
    assert fingerprint(pipe) == fingerprint(original)
    assert not any(p.requires_grad or m.training for m in (pipe.unet, pipe.vae) for p in m.parameters())
    assert pipe.unet.dtype == torch.float32
    half = load_pipeline(tmp_path, device="cpu", dtype=torch.bfloat16)
    assert half.unet.dtype == torch.bfloat16 and fingerprint(half) == fingerprint(original)


def same_weights(pipe, other):
    """Bit for bit, in every part."""
    one, two = ({k: v for k, v in state_of(each).items() if k.endswith("weights")} for each in (pipe, other))
    return one == two


def test_names_that_lead_nowhere(tmp_path):
    with pytest.raises(ModelError, match=r"no model_index\.json"):
        load_pipeline(tmp_path)
    with pytest.raises(ModelError, match="no such file"):
        load_pipeline(tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="no model"):
        load_pipeline(str(tmp_path / "nowhere"))
    for name in ("x" * 300, "x" * 300 + ".safetensors"):
        with pytest.raises(ModelError, match="no "):
            load_pipeline(name)
    with pytest.raises(ModelError, match="pickle"):
        load_pipeline(tmp_path / "x.ckpt")
    with pytest.raises(ModelError, match="no device 'abacus'"):
        load_pipeline("miniature", device="abacus")
    (tmp_path / "y.safetensors").write_text("not tensors")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_pipeline(tmp_path / "y.safetensors")
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_pipeline(tmp_path)


@pytest.mark.parametrize(
    ("model", "option", "says"),
    [
        ("miniature", {"revision": "main"}, "revision main is for a hub model, not for miniature"),
        ("miniature", {"config": "x"}, "config x is for a .safetensors file"),
        ("folder", {"revision": "main"}, "revision main is for a hub model"),
        ("x.safetensors", {"variant": "fp16"}, "variant fp16 is for a hub model or a folder"),
        ("owner/model", {"config": "x"}, "config x is for a .safetensors file"),
    ],
)
def test_an_option_that_means_nothing_is_refused(model, option, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model_index.json").write_text("{}")
    with pytest.raises(ModelError, match=says):
        load_pipeline(model, **option)


def test_other_kinds_of_models_are_refused(tmp_path):
    pipe = make_pipeline("sd1")
    pipe.unet.register_to_config(in_channels=9)
    pipe.unet.conv_in = torch.nn.Conv2d(9, 8, 3, padding=1)
    pipe.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="inpainting"):
        load_pipeline(tmp_path, device="cpu")


def test_the_miniature_reads_its_own_faces():
    with pytest.raises(ModelError, match="leave the face reader auraface out"):
        get_face_reader(load_pipeline("miniature"), "auraface")


# The hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of one model, with a second revision and a variant, and an empty cache."""
    for revision, seed in (("main", 0), ("second", 1)):
        pipe = make_pipeline("sd1", seed)
        pipe.save_pretrained(tmp_path / revision)
    make_pipeline("sd1", 2).save_pretrained(tmp_path / "main", variant="fp16")
    revisions = {revision: tmp_path / revision for revision in ("main", "second")}
    with serve({"owner/model": revisions, "owner/gated": revisions}, gated=["owner/gated"]) as (address, asked):
        visit(monkeypatch, address, tmp_path / "cache")
        yield asked


def test_a_hub_model_comes_with_revision_and_variant_and_stays(hub, monkeypatch):
    def load(**options):
        return load_pipeline("owner/model", device="cpu", **options)

    assert same_weights(load(), make_pipeline("sd1", 0))
    assert not any(".fp16." in path for path in hub)
    assert same_weights(load(revision="second"), make_pipeline("sd1", 1))
    assert same_weights(load(variant="fp16"), make_pipeline("sd1", 2))
    assert model_name(load(revision=commit("second"))) == "owner/model"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.clear()
    assert same_weights(load(), make_pipeline("sd1", 0))
    assert same_weights(load(revision="second"), make_pipeline("sd1", 1))
    assert not hub


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        ("owner/gated", {}, "asks for its licence to be accepted: open https://huggingface.co/owner/gated"),
        ("owner/nobody", {}, "the hub has no model owner/nobody"),
        ("owner/model", {"revision": "third"}, "owner/model has no revision third"),
        ("owner/model", {"variant": "int4"}, "int4"),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub, model, options, says, capfd):
    with pytest.raises(ModelError, match=says) as error:
        load_pipeline(model, device="cpu", **options)
    assert "\n" not in str(error.value) and "Hub" not in capfd.readouterr().err


def test_a_hub_model_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="connect to the network") as error:
        load_pipeline("somebody/some-model")
    assert "\n" not in str(error.value)


def cut(content):
    return content[: len(content) // 2]


def not_numbers(content):
    """The last weights of a file."""
    return content[:-64] + b"\xff" * 64


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model_index.json", cut),
        ("unet/config.json", cut),
        ("unet/config.json", lambda content: content.replace(b'"in_channels": 4', b'"in_channels": 8')),
        ("unet/diffusion_pytorch_model.safetensors", cut),
        ("unet/diffusion_pytorch_model.safetensors", not_numbers),
        ("text_encoder/model.safetensors", not_numbers),
        ("text_encoder/model.safetensors", lambda content: b""),
        ("vae/diffusion_pytorch_model.safetensors", lambda content: b"x" * len(content)),
        ("tokenizer/tokenizer.json", lambda content: b"{}"),
    ],
)
def test_a_damaged_file_of_the_cache_is_named_and_fetched_again_once_it_is_deleted(
    hub, monkeypatch, tmp_path, file, damage
):
    load_pipeline("owner/model", device="cpu")
    stored = (tmp_path / "cache/models--owner--model/snapshots" / commit("main") / file).resolve()
    stored.write_bytes(damage(stored.read_bytes()))
    for offline in (True, False):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
        with pytest.raises(ModelError) as error:
            load_pipeline("owner/model", device="cpu")
        assert str(error.value).endswith(f"; delete {stored}, so that it is downloaded again")
        assert "\n" not in str(error.value)
    stored.unlink()
    assert same_weights(load_pipeline("owner/model", device="cpu"), make_pipeline("sd1", 0))


def test_a_model_that_is_as_the_hub_has_it_is_not_to_be_deleted(hub, tmp_path):
    """What is wrong with it is wrong on the hub, too."""
    weights = tmp_path / "main/unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(not_numbers(weights.read_bytes()))
    with pytest.raises(ModelError, match="no finite numbers") as error:
        load_pipeline("owner/model", device="cpu")
    assert "delete" not in str(error.value)


def test_a_cache_without_links_names_the_models_folder(hub, tmp_path):
    load_pipeline("owner/model", device="cpu")
    folder = tmp_path / "cache/models--owner--model"
    [snapshot] = (folder / "snapshots").iterdir()
    for link in [path for path in snapshot.rglob("*") if path.is_symlink()]:
        link.resolve().rename(link)
    weights = snapshot / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(cut(weights.read_bytes()))
    with pytest.raises(ModelError, match="delete") as error:
        load_pipeline("owner/model", device="cpu")
    assert f"delete {folder}, " in str(error.value)


# Single files


@pytest.fixture
def single(tmp_path, monkeypatch):
    """Makes a pipeline of a kind: itself, its single file, and the folder of a model it may derive from."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    def make(kind, **more):
        pipe = make_pipeline(kind)
        save_file(original_layout(pipe, LAYOUTS[kind]) | more, tmp_path / "model.safetensors")
        parent = make_pipeline(kind, seed=1)
        parent.register_modules(**{name: part for name, part in pipe.components.items() if "tokenizer" in name})
        parent.save_pretrained(tmp_path / "parent")
        return pipe, tmp_path / "model.safetensors", tmp_path / "parent"

    return make


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_a_single_file_with_the_model_it_derives_from(single, kind):
    pipe, file, parent = single(kind)
    loaded = load_pipeline(file, config=parent, device="cpu")
    assert same_weights(loaded, pipe) and fingerprint(loaded) == fingerprint(pipe)
    assert loaded.scheduler.config.prediction_type == pipe.scheduler.config.prediction_type
    assert not any(p.requires_grad for p in loaded.unet.parameters())


def test_a_single_file_says_that_it_predicts_velocity(single):
    _, file, parent = single("sdxl", v_pred=torch.tensor([]), ztsnr=torch.tensor([]))
    scheduler = load_pipeline(file, config=parent, device="cpu").scheduler
    assert scheduler.config.prediction_type == "v_prediction" and scheduler.config.rescale_betas_zero_snr


def test_a_single_file_with_the_noise_of_edm_is_refused(single):
    """diffusers would take the schedule of its configuration, and draw noise."""
    _, file, parent = single("sdxl", edm_mean=torch.zeros(4), edm_std=torch.ones(4))
    with pytest.raises(ModelError, match=r"noise of EDM.*name a model with a schedule of betas"):
        load_pipeline(file, config=parent, device="cpu")


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_family_in_the_cache_serves_its_single_files(single, kind, tmp_path):
    """And where it is not there, nothing is fetched: the line says what to name."""
    pipe, file, parent = single(kind)
    [family] = [
        hub for row in FAMILIES if (row.name == "SDXL") == (kind == "sdxl") for hub in row.single_files.values() if hub
    ]
    with pytest.raises(ModelError, match=f"such as {family}.*argument: config") as error:
        load_pipeline(file, device="cpu")
    assert "\n" not in str(error.value)
    cached = shutil.copytree(parent, cache_folder(tmp_path / "cache", family), dirs_exist_ok=True)
    assert same_weights(load_pipeline(file, device="cpu"), pipe)
    (cached / "tokenizer" / "tokenizer.json").write_bytes(b"{")
    with pytest.raises(ModelError, match=rf"tokenizer.json is no JSON file .*; delete {cached.parents[1]}, so that"):
        load_pipeline(file, device="cpu")


def test_of_stable_diffusion_2_there_are_two_kinds(single):
    _, file, _ = single("sd2")
    with pytest.raises(ModelError, match="noise or velocity"):
        load_pipeline(file, device="cpu")


def test_a_single_file_from_the_hub_parent(single, tmp_path, monkeypatch):
    pipe, file, parent = single("sd1")
    with serve({"owner/parent": {"main": parent}}) as (address, asked):
        visit(monkeypatch, address, tmp_path / "cache")
        assert same_weights(load_pipeline(file, config="owner/parent", device="cpu"), pipe)
        assert asked and not any("resolve" in path and ".safetensors" in path for path in asked)
        with pytest.raises(ModelError, match="the hub has no model owner/nobody"):
            load_pipeline(file, config="owner/nobody", device="cpu")


def test_single_files_that_are_not_whole(single, tmp_path):
    pipe, file, parent = single("sd1")
    with pytest.raises(ModelError, match="no config 'nowhere'"):
        load_pipeline(file, config="nowhere", device="cpu")
    tensors = original_layout(pipe, ("clip",))
    for gone in ("first_stage_model.", "cond_stage_model.transformer.text_model.encoder.layers.1.", "model.diffusion"):
        save_file({key: value for key, value in tensors.items() if not key.startswith(gone)}, file)
        with pytest.raises(ModelError, match=r"lacks weights|cannot be loaded") as error:
            load_pipeline(file, config=parent, device="cpu")
        assert "\n" not in str(error.value)


# Devices


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16", None])
def test_bfloat16_where_the_processor_computes_in_it(feature, monkeypatch):
    """And only for a large model; float16 is for CUDA alone."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {feature: True})
    cpu, cuda, mps = map(torch.device, ("cpu", "cuda", "mps"))
    assert _dtype(cpu, 2**31) == (torch.bfloat16 if feature else torch.float32)
    assert _dtype(cpu, 2**24) == _dtype(mps, 2**31) == torch.float32
    assert _dtype(cuda, 2**24) == torch.float16


class NoFloat64(TorchDispatchMode):
    """Raises where anything is computed in float64, which Apple's GPUs do not have."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        assert not any(isinstance(t, torch.Tensor) and t.dtype == torch.float64 for t in tree_leaves(result)), function
        return result


def test_nothing_is_fitted_or_drawn_in_float64(pipe, basis):
    face = Face(Image.radial_gradient("L").convert("RGB"), (0, 0, 256, 256), torch.eye(4)[0])
    with NoFloat64():
        person = fit_identity(pipe, basis, [face], placeholder_token="<sks>", max_train_steps=2, num_train_images=2)
        generate(pipe, "a photo of <sks>", [person], num_inference_steps=2)
    with NoFloat64(), pytest.raises(AssertionError):
        torch.zeros(1).double()

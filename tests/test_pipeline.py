import pytest
import torch
from conftest import make_pipeline

from celeb_basis import ModelError, load_pipeline
from celeb_basis.pipeline import model_name
from celeb_basis.tokens import fingerprint


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


def test_a_hub_model_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="connect to the network") as error:
        load_pipeline("somebody/some-model")
    assert "\n" not in str(error.value)


def test_other_kinds_of_models_are_refused(tmp_path):
    pipe = make_pipeline("sd1")
    pipe.unet.register_to_config(in_channels=9)
    pipe.unet.conv_in = torch.nn.Conv2d(9, 8, 3, padding=1)
    pipe.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="inpainting"):
        load_pipeline(tmp_path, device="cpu")

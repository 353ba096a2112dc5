"""LoRA files beside people: what they change, what is put back, what is refused."""

import numpy as np
import pytest
import torch
from conftest import NAMES, make_pipeline, state_of
from safetensors.torch import save_file

from celeb_basis import CelebBasis, Identity, ModelError
from celeb_basis.backend.lora import active_loras, check_loras, loras
from celeb_basis.generate import generate

UNET = {"r": 2, "lora_alpha": 4, "target_modules": ["to_q", "to_v"]}
TEXT = {"r": 2, "target_modules": ["q_proj"]}


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def pipe(request):
    return make_pipeline(request.param)


@pytest.fixture(scope="module")
def ada(pipe):
    return Identity.sample(CelebBasis.from_pipeline(pipe, NAMES), "<ada>", torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def file(pipe, tmp_path_factory):
    """As diffusers writes it, with layers for a text encoder too."""
    from peft import LoraConfig, get_peft_model_state_dict

    folder = tmp_path_factory.mktemp("lora")
    other = make_pipeline("sdxl" if hasattr(pipe, "text_encoder_2") else "sd1")
    for part, config in ((other.unet, UNET), (other.text_encoder, TEXT)):
        part.add_adapter(LoraConfig(**config))
        g = torch.Generator().manual_seed(0)
        for name, weight in part.named_parameters():
            if "lora" in name:
                weight.data.normal_(0, 0.5, generator=g)
    type(other).save_lora_weights(
        folder,
        unet_lora_layers=get_peft_model_state_dict(other.unet),
        text_encoder_lora_layers=get_peft_model_state_dict(other.text_encoder),
        weight_name="my detail.1.safetensors",
    )
    return folder / "my detail.1.safetensors"


def drawn(pipe, ada):
    [image] = generate(pipe, "a photo of <ada>", [ada], num_inference_steps=2)
    return image


def pixels(image):
    return np.asarray(image, int)


def test_a_file_changes_what_is_drawn_while_it_is_loaded(pipe, ada, file):
    before, plain = state_of(pipe), drawn(pipe, ada)
    with loras(pipe, {file: 0.5}):
        half = drawn(pipe, ada)
        assert active_loras(pipe) == {"my_detail_1": 0.5} and half.info["loras"] == "my_detail_1=0.5"
    with loras(pipe, {file: 1.0}):
        whole = drawn(pipe, ada)
    with loras(pipe, {file: 0.0}):
        none = drawn(pipe, ada)
    assert state_of(pipe) == before and active_loras(pipe) == {}
    assert (pixels(none) == pixels(plain)).all() and "loras" not in plain.info
    assert abs(pixels(whole) - pixels(plain)).max() > 1 < abs(pixels(half) - pixels(whole)).max()
    pipe.load_lora_weights(file, adapter_name="stock")
    try:
        assert (pixels(drawn(pipe, ada)) == pixels(whole)).all()
        with loras(pipe, {file: 1.0}):  # and the owner's own stays
            assert active_loras(pipe) == {"my_detail_1": 1.0}
        assert active_loras(pipe) == {"stock": 1.0}
        assert pipe.get_list_adapters()["unet"] == ["stock"]
    finally:
        pipe.unload_lora_weights()


def test_the_layout_of_kohya_is_read(pipe, ada, tmp_path):
    name = next(name for name, _ in pipe.unet.named_modules() if name.endswith("attn2.to_q"))
    width, key = pipe.unet.get_submodule(name).weight.shape[0], f"lora_unet_{name.replace('.', '_')}"
    g = torch.Generator().manual_seed(0)
    tensors = {
        f"{key}.lora_down.weight": torch.randn(2, width, generator=g),
        f"{key}.lora_up.weight": torch.randn(width, 2, generator=g),
        f"{key}.alpha": torch.tensor(2.0),
    }
    save_file(tensors, tmp_path / "kohya.safetensors")
    plain = drawn(pipe, ada)
    with loras(pipe, {tmp_path / "kohya.safetensors": 1.0}):
        assert abs(pixels(drawn(pipe, ada)) - pixels(plain)).max() > 1
    assert (pixels(drawn(pipe, ada)) == pixels(plain)).all()


@pytest.mark.parametrize(
    "tensors",
    [
        {"emb_params": torch.zeros(2, 4)},
        {"unet.nowhere.lora_A.weight": torch.zeros(2, 4), "unet.nowhere.lora_B.weight": torch.zeros(4, 2)},
        {"transformer.x.lora_A.weight": torch.zeros(2, 4), "transformer.x.lora_B.weight": torch.zeros(4, 2)},
        {
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight": torch.zeros(2, 320),
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight": torch.zeros(320, 2),
        },
    ],
)
def test_a_file_of_something_else_is_refused_and_leaves_no_mark(pipe, tmp_path, tensors):
    save_file(tensors, tmp_path / "x.safetensors")
    before = state_of(pipe)
    with pytest.raises(ModelError, match=r"x\.safetensors (cannot be loaded as a LoRA|holds no LoRA)") as refused:
        with loras(pipe, {tmp_path / "x.safetensors": 1.0}):
            pass
    assert "\n" not in str(refused.value) and state_of(pipe) == before


def test_files_are_looked_at_before_a_model_is_loaded(tmp_path):
    (tmp_path / "a.safetensors").touch()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.safetensors").touch()
    for files, says in (
        ([(tmp_path / "a.pt", 1.0)], "is no .safetensors file"),
        ([(tmp_path / "b.safetensors", 1.0)], "no such file"),
        ([(tmp_path / "a.safetensors", float("nan"))], "must be from -10 to 10"),
        ([(tmp_path / "a.safetensors", 1.0), (tmp_path / "a" / "a.safetensors", 1.0)], "two LoRA files are called a"),
    ):
        with pytest.raises(ModelError, match=says):
            check_loras(files)

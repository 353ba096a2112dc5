"""Measures against little memory: which are taken for how many bytes, and that they change nothing."""

import numpy as np
import pytest
import torch
from conftest import NAMES, TEMPLATES, make_pipeline, make_tokenizer, state_of
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from celeb_basis import CelebBasis, Face, ModelError, fit_identity, generate
from celeb_basis.memory import CHECKPOINT, GIB, OFFLOAD, RESERVE, SLICE, TILES, measures, place

CPU = torch.device("cpu")
TWENTY = {"attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
XL = {
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": [1, 2, 10],
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


def text_encoder(kind, width, layers):
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        vocab_size=49408,
        projection_dim=width,
    )
    return kind(config)


def published(kind):
    """A pipeline as large as the published one, in float16, whose weights have a shape and no memory."""
    tokenizer = make_tokenizer()
    common = {"scheduler": DDIMScheduler(steps_offset=1, clip_sample=False), "tokenizer": tokenizer}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        with torch.device("meta"):
            common["vae"] = AutoencoderKL(
                block_out_channels=(128, 256, 512, 512),
                layers_per_block=2,
                sample_size=1024 if kind == "sdxl" else 512,
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
            )
            if kind == "sdxl":
                return StableDiffusionXLPipeline(
                    **common,
                    unet=UNet2DConditionModel(sample_size=128, cross_attention_dim=2048, **XL),
                    text_encoder=text_encoder(CLIPTextModel, 768, 12),
                    text_encoder_2=text_encoder(CLIPTextModelWithProjection, 1280, 32),
                    tokenizer_2=tokenizer,
                    add_watermarker=False,
                )
            size, width, layers, more = (64, 768, 12, {}) if kind == "sd1" else (96, 1024, 23, TWENTY)
            return StableDiffusionPipeline(
                **common,
                unet=UNet2DConditionModel(sample_size=size, cross_attention_dim=width, **more),
                text_encoder=text_encoder(CLIPTextModel, width, layers),
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize(
    ("kind", "cards"),
    [
        ("sd1", {24: [], 6: [CHECKPOINT, SLICE], 4: [CHECKPOINT, SLICE], 2: [OFFLOAD, CHECKPOINT, SLICE]}),
        ("sd2", {24: [], 8: [CHECKPOINT, SLICE]}),
        ("sdxl", {64: [], 24: [CHECKPOINT, SLICE], 12: [CHECKPOINT, SLICE], 8: [OFFLOAD, CHECKPOINT, SLICE, TILES]}),
    ],
)
def test_the_published_sizes_on_usual_cards(kind, cards):
    """SD 1.5 in 6 GB and SDXL in 12, of which a desktop has taken 5%."""
    pipe = published(kind)
    for gigabytes, expected in cards.items():
        assert measures(pipe, int(0.95 * gigabytes * GIB) - RESERVE, gpu=True) == expected, gigabytes


def test_main_memory_has_nowhere_to_offload_to():
    assert OFFLOAD not in measures(published("sd1"), GIB, gpu=False)


def fit(pipe):
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    face = Face(Image.radial_gradient("L").convert("RGB"), (0, 0, 256, 256), torch.eye(4)[0])
    recipe = {"init": "mean", "max_train_steps": 3, "num_pictures": 3, "templates": TEMPLATES, "scales": (1.0,)}
    return fit_identity(pipe, basis, [face], placeholder_token="<sks>", **recipe)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_little_memory_gives_the_same_person_and_picture(kind, caplog):
    caplog.set_level("INFO", "celeb_basis")
    pipe = make_pipeline(kind)
    place(pipe, CPU)
    person = fit(pipe)
    [picture] = generate(pipe, "a photo of <sks>", [person], num_inference_steps=2)
    assert not caplog.messages and not pipe.unet.is_gradient_checkpointing
    place(pipe, CPU, free=0)
    [said] = caplog.messages
    assert "gradient checkpointing, pictures coded one by one" in said and "float32" in said
    assert pipe.unet.is_gradient_checkpointing and pipe.vae.use_slicing
    assert not pipe.vae.use_tiling  # its pictures are smaller than a tile
    before = state_of(pipe)
    again = fit(pipe)
    assert state_of(pipe) == before
    torch.testing.assert_close(again.vectors, person.vectors, rtol=1e-4, atol=1e-6)
    [same] = generate(pipe, "a photo of <sks>", [person], num_inference_steps=2)
    assert np.abs(np.asarray(same, dtype=int) - np.asarray(picture)).max() <= 1


def test_parts_that_take_turns_can_draw_and_not_fit():
    pipe = make_pipeline("sd1")
    person = fit(pipe)
    [picture] = generate(pipe, "a photo of <sks>", [person], num_inference_steps=2)
    pipe.enable_model_cpu_offload(device="cpu")
    [same] = generate(pipe, "a photo of <sks>", [person], num_inference_steps=2)
    assert same.tobytes() == picture.tobytes()
    with pytest.raises(ModelError, match="can draw but not be fitted to"):
        fit(pipe)

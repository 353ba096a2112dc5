"""Stable Diffusion 1.5, 2.1 and XL as published, to the last shape, with random weights and CLIP's true vocabulary."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from importlib import metadata
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from celeb_basis import Face, miniature

NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
KINDS = ("sd1", "sd2", "sdxl")


def stand_in(number: int, feature: Tensor | None = None) -> Face:
    """A face of the right shapes, without a face model: what a model of random weights learns of it is noise."""
    crop = miniature.person(number).resize((512, 512), Image.Resampling.BICUBIC)
    return Face(crop, (0, 0, 512, 512), torch.ones(1) if feature is None else feature, "stand-in")


def clip_tokenizer(pad_token: str = "<|endoftext|>") -> CLIPTokenizer:
    """CLIP's tokenizer, from the merges in a package that is not imported, as it needs torchvision.

    Raises FileNotFoundError where that package is missing: pip install --no-deps open_clip_torch.
    """
    try:
        files = metadata.files("open_clip_torch") or []
    except metadata.PackageNotFoundError:
        files = []
    paths = [file.locate() for file in files if file.name == "bpe_simple_vocab_16e6.txt.gz"]
    if not paths:
        raise FileNotFoundError("the vocabulary is missing: pip install --no-deps open_clip_torch")
    lines = gzip.decompress(paths[0].read_bytes()).decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    # A byte that cannot be printed stands as a later character; no name has one, but they take up ids.
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    pieces = [*letters, *(letter + "</w>" for letter in letters), *map("".join, merges)]
    vocab = {piece: i for i, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77, pad_token=pad_token)


def make_pipeline(kind: str, dtype: torch.dtype = torch.float32, *, device: str = "cpu") -> Any:
    """A pipeline of kind "sd1", "sd2" or "sdxl": 4, 5 or 14 GB in single precision, half of that in half.

    device: on "meta" the weights have a shape and no memory.
    """

    def model(make: Callable[[], nn.Module]) -> Any:
        with torch.device("meta"):
            made = make().to(dtype).eval().requires_grad_(False)
        return made if device == "meta" else filled(made)

    text = {"vocab_size": 49408, "max_position_embeddings": 77, "bos_token_id": 49406, "eos_token_id": 49407}
    large = {"hidden_act": "quick_gelu", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
             "num_attention_heads": 12, "projection_dim": 768}  # fmt: skip
    vae = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
           "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}  # fmt: skip
    bare = {"safety_checker": None, "feature_extractor": None, "image_encoder": None}
    if kind == "sd1":
        return StableDiffusionPipeline(
            vae=model(lambda: AutoencoderKL(**vae, sample_size=512)),
            text_encoder=model(lambda: CLIPTextModel(CLIPTextConfig(**text, **large))),
            tokenizer=clip_tokenizer(),
            unet=model(lambda: UNet2DConditionModel(sample_size=64, attention_head_dim=8, cross_attention_dim=768)),
            scheduler=PNDMScheduler(**NOISE, skip_prk_steps=True, set_alpha_to_one=False),
            requires_safety_checker=False,
            **bare,
        )
    if kind == "sd2":
        wide = {"hidden_act": "gelu", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23,
                "num_attention_heads": 16, "projection_dim": 512}  # fmt: skip
        return StableDiffusionPipeline(
            vae=model(lambda: AutoencoderKL(**vae, sample_size=768)),
            text_encoder=model(lambda: CLIPTextModel(CLIPTextConfig(**text, **wide))),
            tokenizer=clip_tokenizer("!"),
            unet=model(
                lambda: UNet2DConditionModel(
                    sample_size=96,
                    attention_head_dim=(5, 10, 20, 20),
                    cross_attention_dim=1024,
                    use_linear_projection=True,
                )
            ),
            scheduler=DDIMScheduler(**NOISE, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False),
            requires_safety_checker=False,
            **bare,
        )
    assert kind == "sdxl", kind
    huge = {"hidden_act": "gelu", "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
            "num_attention_heads": 20, "projection_dim": 1280}  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=model(
            lambda: AutoencoderKL(**vae, sample_size=1024, scaling_factor=0.13025, force_upcast=True)
        ),
        text_encoder=model(lambda: CLIPTextModel(CLIPTextConfig(**text, **large))),
        text_encoder_2=model(lambda: CLIPTextModelWithProjection(CLIPTextConfig(**text, **huge))),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer("!"),
        unet=model(
            lambda: UNet2DConditionModel(
                sample_size=128, block_out_channels=(320, 640, 1280),
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 2, 10), attention_head_dim=(5, 10, 20), cross_attention_dim=2048,
                use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
                projection_class_embeddings_input_dim=2816,
            )
        ),
        scheduler=EulerDiscreteScheduler(**NOISE, timestep_spacing="leading"),
        add_watermarker=False,
    )  # fmt: skip


def filled(model: nn.Module) -> nn.Module:
    """A model from the meta device with small random weights, made without a second copy."""
    model = model.to_empty(device="cpu")
    if hasattr(model, "tie_weights"):  # an empty copy has each table of its own
        model.tie_weights()
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if weight.ndim > 1:
                fan_in = weight[0].numel() if not isinstance(module, nn.Embedding) else 2500  # 0.02, as in CLIP
                weight.normal_(0, fan_in**-0.5, generator=generator)
            else:
                weight.fill_(1.0 if name == "weight" else 0.0)
        for buffer in module.buffers(recurse=False):
            buffer.zero_()
        if hasattr(module, "position_ids"):
            module.position_ids.copy_(torch.arange(module.position_ids.shape[-1]).expand_as(module.position_ids))
        elif hasattr(module, "inv_freq"):
            frequencies = module.compute_default_rope_parameters(module.config)[0]
            module.inv_freq.copy_(frequencies)
            module.original_inv_freq.copy_(frequencies)
        elif hasattr(module, "reset_running_stats"):
            module.reset_running_stats()
    return model

"""Packs a trained transformer as a stock Z-Image pipeline in a folder that every command takes as --model."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from celeb_basis.miniature.drawn import world

from .export import CARD, learn_basis, write_card
from .language import PIPELINE_LENGTH, encoder_of

# Z-Image's guidance counts from 0, where Stable Diffusion's counts from 1.
CARD = CARD | {"resolution": world.SIZE, "num_inference_steps": 10, "guidance_scale": 1.5}
CHAT = "{{ messages[0].content }}"
"""What the pipeline makes of a prompt: nothing, as the captions were read without a chat around them."""


def run(folder: Path, *, reads: str, device: str) -> None:
    """Write the pipeline, its card and its basis to `folder/pipeline-READS`."""
    learn_basis(save(folder, reads), CARD, device)


def save(folder: Path, reads: str) -> Path:
    """Write the pipeline and a card without basis; returns its folder."""
    target = folder / f"pipeline-{reads}"
    shutil.rmtree(target, ignore_errors=True)
    assemble(folder, reads).save_pretrained(target)
    write_card(CARD, target)
    return target


def assemble(folder: Path, reads: str) -> ZImagePipeline:
    """The pipeline of what a training folder holds by now, in float32."""
    tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    tokens.chat_template = CHAT
    encoder = encoder_of(folder, reads)
    cooled = folder / f"transformer-{reads}-cooled"
    return ZImagePipeline(
        vae=AutoencoderTiny.from_pretrained(folder / "vae"),
        text_encoder=_lengthened(encoder) if isinstance(encoder, CLIPTextModel) else encoder,
        tokenizer=tokens,
        transformer=ZImageTransformer2DModel.from_pretrained(
            cooled if cooled.exists() else folder / f"transformer-{reads}"
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
    )


def _lengthened(encoder: CLIPTextModel) -> CLIPTextModel:
    """CLIP with a position for every place of the padding, which reads nothing and is not read."""
    config = encoder.config.to_dict() | {"max_position_embeddings": PIPELINE_LENGTH}
    longer = CLIPTextModel(CLIPTextConfig.from_dict(config))
    state = encoder.state_dict()
    [key] = [key for key in state if key.endswith("position_embedding.weight")]
    state[key] = torch.cat([state[key], torch.zeros(PIPELINE_LENGTH - len(state[key]), state[key].shape[1])])
    longer.load_state_dict(state, strict=False)  # the numbers of the positions are no weights
    return longer.eval().requires_grad_(False)

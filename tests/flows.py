"""Tiny pipelines of the transformers' true classes with random weights."""

from __future__ import annotations

from typing import Any

import torch
from conftest import FIRST, LAST, WORDS, make_encoder, make_tokenizer
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import pre_tokenizers
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

KINDS = ("sd3", "sd3-t5", "flux", "klein", "z-image")
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>{% endif %}"
)


def t5_tokenizer() -> T5Tokenizer:
    """Each of the words is one piece, everything else letters."""
    letters = [chr(i) for i in range(33, 127)]
    pieces = ["<pad>", "</s>", "<unk>", "▁", *letters, *(f"▁{word}" for word in [*WORDS, *FIRST, *LAST])]
    scores = [0.0, 0.0, 0.0] + [-9.0] * (1 + len(letters)) + [-2.0] * (len(pieces) - 4 - len(letters))
    return T5Tokenizer(vocab=list(zip(pieces, scores, strict=True)), extra_ids=0, model_max_length=48)


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Bytes, and each of the words with the space before it."""
    vocab = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = []
    for word in [*WORDS, *FIRST, *LAST]:
        made = "Ġ"
        for letter in word:
            if made + letter not in vocab:
                vocab[made + letter] = len(vocab)
                merges.append((made, letter))
            made += letter
    vocab["<|endoftext|>"] = len(vocab)
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=merges, model_max_length=512)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT
    return tokenizer


def t5_encoder(tokenizer: Any, width: int = 24) -> T5EncoderModel:
    config = T5Config(
        vocab_size=len(tokenizer) + 3, d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=3,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return T5EncoderModel(config)


def qwen_encoder(tokenizer: Any, layers: int) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=len(tokenizer) + 3, hidden_size=16, intermediate_size=24, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, max_position_embeddings=2048,
        tie_word_embeddings=True, initializer_range=0.1,
    )  # fmt: skip
    return Qwen3ForCausalLM(config)


def flow_vae(kind: type = AutoencoderKL, **more: Any) -> Any:
    vae = kind(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **more,
    )  # fmt: skip
    if kind is AutoencoderKLFlux2:
        vae.bn.running_mean.normal_(0, 0.3)
        vae.bn.running_var.uniform_(0.5, 2)
    return vae


def make_flow(kind: str, seed: int = 0) -> Any:
    """kind: one of KINDS; the picture has 16 pixels on a side, except Z-Image's, whose own size is 1,024."""
    torch.manual_seed(seed)
    shifted = FlowMatchEulerDiscreteScheduler(shift=3.0)
    dynamic = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    statistics = {"shift_factor": 0.1, "scaling_factor": 0.6}
    clip, t5, qwen = make_tokenizer(), t5_tokenizer(), qwen_tokenizer()
    pipe: Any
    if kind.startswith("sd3"):
        clip_2 = make_tokenizer(pad_token="!")
        pipe = StableDiffusion3Pipeline(
            transformer=SD3Transformer2DModel(
                sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
                num_attention_heads=2, joint_attention_dim=48, caption_projection_dim=16, pooled_projection_dim=48,
                pos_embed_max_size=8, dual_attention_layers=(0,), qk_norm="rms_norm",
            ),
            scheduler=shifted,
            vae=flow_vae(**statistics),
            text_encoder=make_encoder(clip, 16, CLIPTextModelWithProjection),
            tokenizer=clip,
            text_encoder_2=make_encoder(clip_2, 32, CLIPTextModelWithProjection),
            tokenizer_2=clip_2,
            text_encoder_3=t5_encoder(t5, 48) if kind == "sd3-t5" else None,
            tokenizer_3=t5 if kind == "sd3-t5" else None,
        )  # fmt: skip
    elif kind == "flux":
        pipe = FluxPipeline(
            transformer=FluxTransformer2DModel(
                patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8,
                num_attention_heads=2, joint_attention_dim=24, pooled_projection_dim=16, guidance_embeds=True,
                axes_dims_rope=(2, 2, 4),
            ),
            scheduler=dynamic,
            vae=flow_vae(**statistics),
            text_encoder=make_encoder(clip, 16, CLIPTextModel),
            tokenizer=clip,
            text_encoder_2=t5_encoder(t5),
            tokenizer_2=t5,
        )  # fmt: skip
    elif kind == "klein":
        pipe = Flux2KleinPipeline(
            transformer=Flux2Transformer2DModel(
                patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8,
                num_attention_heads=2, joint_attention_dim=48, guidance_embeds=False, axes_dims_rope=(2, 2, 2, 2),
            ),
            scheduler=dynamic,
            vae=flow_vae(AutoencoderKLFlux2),
            text_encoder=qwen_encoder(qwen, 27),
            tokenizer=qwen,
        )  # fmt: skip
    else:
        pipe = ZImagePipeline(
            transformer=ZImageTransformer2DModel(
                in_channels=4, dim=16, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
                axes_dims=[4, 2, 2], axes_lens=[1024, 64, 64],
            ),
            scheduler=shifted,
            vae=flow_vae(**statistics),
            text_encoder=qwen_encoder(qwen, 3),
            tokenizer=qwen,
        )  # fmt: skip
    pipe.default_sample_size = 8
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
            for weight in part.parameters():  # many start at zero, where nothing depends on anything
                if not weight.abs().max():
                    weight.normal_(0, 0.1)
    pipe.set_progress_bar_config(disable=True)
    pipe.register_to_config(_name_or_path=f"tiny {kind}")
    return pipe

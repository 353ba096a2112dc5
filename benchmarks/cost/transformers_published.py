"""SD 3.5 medium, FLUX.1, FLUX.2 klein 4B and Z-Image as published, to the last shape, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from architectures import filled
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
from torch import nn
from transformers import (
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

KINDS = ("sd3", "sd3-t5", "flux", "klein", "z-image")
# As Qwen3's own for a single message.
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
)


def make_pipeline(
    kind: str,
    dtype: torch.dtype = torch.bfloat16,
    *,
    device: str = "cpu",
    layers: int | None = None,
    tokenizers: dict[str, Path | None] | None = None,
) -> Any:
    """A pipeline of one of KINDS.

    device: on "meta" the weights have a shape and no memory.
    layers: of each stack of blocks at most so many; None for all.
    tokenizers: folders of "clip", "t5" and "qwen"; without one, nothing can be read.
    """
    most = layers or 10**6

    def model(make: Callable[[], nn.Module]) -> Any:
        with torch.device("meta"):
            made = make().to(dtype).eval().requires_grad_(False)
        return made if device == "meta" else filled(made)

    def tokenizer(name: str, **more: Any) -> Any:
        folder = (tokenizers or {}).get(name)
        made = AutoTokenizer.from_pretrained(folder, local_files_only=True, **more) if folder else None
        if made is not None and name == "qwen":
            made.chat_template = CHAT
        return made

    def vae(channels: int, **statistics: Any) -> Any:
        return model(
            lambda: AutoencoderKL(
                block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=channels, sample_size=1024,
                down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                use_quant_conv=False, use_post_quant_conv=False, **statistics,
            )
        )  # fmt: skip

    text = {"vocab_size": 49408, "max_position_embeddings": 77, "bos_token_id": 49406, "eos_token_id": 49407}
    large = text | {"hidden_act": "quick_gelu", "hidden_size": 768, "intermediate_size": 3072, "projection_dim": 768,
                    "num_hidden_layers": min(12, most), "num_attention_heads": 12}  # fmt: skip
    huge = text | {"hidden_act": "gelu", "hidden_size": 1280, "intermediate_size": 5120, "projection_dim": 1280,
                   "num_hidden_layers": min(32, most), "num_attention_heads": 20}  # fmt: skip
    shifted = FlowMatchEulerDiscreteScheduler(shift=3.0)
    dynamic = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)

    def t5() -> Any:
        return model(
            lambda: T5EncoderModel(
                T5Config(vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=min(24, most), num_heads=64,
                         feed_forward_proj="gated-gelu")
            )
        )  # fmt: skip

    def qwen(least: int, kind: type = Qwen3ForCausalLM) -> Any:
        return model(
            lambda: kind(
                Qwen3Config(vocab_size=151936, hidden_size=2560, intermediate_size=9728,
                            num_hidden_layers=max(least, min(36, most)), num_attention_heads=32, num_key_value_heads=8,
                            head_dim=128, max_position_embeddings=40960, tie_word_embeddings=True)
            )
        )  # fmt: skip

    if kind.startswith("sd3"):
        return StableDiffusion3Pipeline(
            transformer=model(
                lambda: SD3Transformer2DModel(
                    sample_size=128, num_layers=min(24, most), num_attention_heads=24, attention_head_dim=64,
                    caption_projection_dim=1536, pos_embed_max_size=384, dual_attention_layers=tuple(range(13)),
                    qk_norm="rms_norm",
                )
            ),
            scheduler=shifted,
            vae=vae(16, scaling_factor=1.5305, shift_factor=0.0609),
            text_encoder=model(lambda: CLIPTextModelWithProjection(CLIPTextConfig(**large))),
            text_encoder_2=model(lambda: CLIPTextModelWithProjection(CLIPTextConfig(**huge))),
            text_encoder_3=t5() if kind == "sd3-t5" else None,
            tokenizer=tokenizer("clip"),
            tokenizer_2=tokenizer("clip", pad_token="!"),
            tokenizer_3=tokenizer("t5") if kind == "sd3-t5" else None,
        )  # fmt: skip
    if kind == "flux":
        return FluxPipeline(
            transformer=model(
                lambda: FluxTransformer2DModel(
                    guidance_embeds=True, num_layers=min(19, most), num_single_layers=min(38, most)
                )
            ),
            scheduler=dynamic,
            vae=vae(16, scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=model(lambda: CLIPTextModel(CLIPTextConfig(**large))),
            text_encoder_2=t5(),
            tokenizer=tokenizer("clip"),
            tokenizer_2=tokenizer("t5"),
        )
    if kind == "klein":
        return Flux2KleinPipeline(
            transformer=model(
                lambda: Flux2Transformer2DModel(
                    num_layers=min(5, most), num_single_layers=min(20, most), num_attention_heads=24,
                    joint_attention_dim=7680, guidance_embeds=False,
                )
            ),
            scheduler=dynamic,
            vae=model(AutoencoderKLFlux2),
            text_encoder=qwen(27),
            tokenizer=tokenizer("qwen"),
        )  # fmt: skip
    assert kind == "z-image", kind
    return ZImagePipeline(
        transformer=model(lambda: ZImageTransformer2DModel(n_layers=min(30, most))),
        scheduler=shifted,
        vae=vae(16, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=qwen(2, Qwen3Model),  # of which the last layer but one is read
        tokenizer=tokenizer("qwen"),
    )

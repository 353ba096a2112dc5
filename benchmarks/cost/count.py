"""Multiplications of a step and of its floor, counted without weights: how far above the floor a step must be.

    python benchmarks count

A step is one pass through text encoders and denoiser, and one back to the caption's input rows; the floor is two passes
without gradients: through the UNet for Stable Diffusion, through text encoders and transformer for Z-Image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import UNet2DConditionModel, ZImageTransformer2DModel
from tables import table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)

TERA = 1e12
CAPTION = 30  # tokens of a caption in Z-Image's chat template; its text encoder reads them padded to 512


def on_meta(make: Callable[[], nn.Module]) -> Any:
    """A model without weights."""
    with torch.device("meta"):
        return make().eval().requires_grad_(False)


def counted(call: Callable[[], Tensor], *, backward: bool) -> float:
    """TFLOP of a call, and of the gradient of its answer."""
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        answer = call()
        if backward:
            answer.sum().backward()
    return counter.get_total_flops() / TERA


def both(call: Callable[[Tensor], Tensor], rows: Tensor) -> tuple[float, float]:
    """TFLOP of a call without gradients, and of the call with the way back to `rows`."""
    rows = rows.requires_grad_()
    return counted(lambda: call(rows), backward=False), counted(lambda: call(rows), backward=True)


def clip(width: int, layers: int, kind: type) -> tuple[float, float]:
    """A text encoder of CLIP, one caption."""
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=width // 64, projection_dim=width,
    )  # fmt: skip
    encoder = on_meta(lambda: kind(config))
    ids = torch.zeros(1, 77, dtype=torch.long, device="meta")

    def call(rows: Tensor) -> Tensor:
        handle = encoder.get_input_embeddings().register_forward_hook(lambda module, args, output: output + rows)
        try:
            states: Tensor = encoder(ids, output_hidden_states=True).hidden_states[-2]
            return states
        finally:
            handle.remove()

    return both(call, torch.zeros(1, 77, width, device="meta"))


def unet(side: int, **config: Any) -> tuple[float, float]:
    """A UNet at pictures of `side` pixels, one at once."""
    network = on_meta(lambda: UNet2DConditionModel(**config))
    sample, t = torch.zeros(1, 4, side // 8, side // 8, device="meta"), torch.zeros(1, device="meta")
    more = {}
    if config.get("addition_embed_type"):
        more = {"text_embeds": torch.zeros(1, 1280, device="meta"), "time_ids": torch.zeros(1, 6, device="meta")}
    states = torch.zeros(1, 77, config["cross_attention_dim"], device="meta")
    return both(lambda rows: network(sample, t, rows, added_cond_kwargs=more).sample, states)


SDXL = {
    "sample_size": 128, "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10), "attention_head_dim": (5, 10, 20), "cross_attention_dim": 2048,
    "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
SD1 = {"sample_size": 64, "attention_head_dim": 8, "cross_attention_dim": 768}


def z_image(side: int, layers: int, read_layers: int, kind: type) -> tuple[tuple[float, float], tuple[float, float]]:
    """Z-Image's text encoder of so many layers, of which the last but one is read, and its transformer."""
    config = Qwen3Config(
        vocab_size=151936, hidden_size=2560, intermediate_size=9728, num_hidden_layers=read_layers, head_dim=128,
        num_attention_heads=32, num_key_value_heads=8,
    )  # fmt: skip
    encoder = on_meta(lambda: kind(config))

    def text(rows: Tensor) -> Tensor:
        states: Tensor = encoder(inputs_embeds=rows, output_hidden_states=True).hidden_states[-2]
        return states

    network = on_meta(lambda: ZImageTransformer2DModel(n_layers=layers))
    noisy = [torch.zeros(16, 1, side // 8, side // 8, device="meta")]

    def draw(rows: Tensor) -> Tensor:
        [drawn] = network(noisy, torch.zeros(1, device="meta"), [rows]).sample
        return drawn

    return both(text, torch.zeros(1, 512, 2560, device="meta")), both(draw, torch.zeros(CAPTION, 2560, device="meta"))


def main() -> None:
    """Print the table."""
    print(table(["one picture", "denoiser forward", "and back", "text forward", "and back", "step / floor"], []))
    for layers, text_layers, side, kind in (
        (1, 1, 128, Qwen3ForCausalLM), (1, 1, 128, Qwen3Model), (1, 2, 128, Qwen3Model), (30, 36, 1024, Qwen3Model)
    ):  # fmt: skip
        text, drawn = z_image(side, layers, text_layers, kind)
        name = f"Z-Image, {layers} and {text_layers} layers of a {kind.__name__}, {side} pixels"
        show(name, drawn, text, (text[1] + drawn[1]) / (2 * (text[0] + drawn[0])))
    small, large = clip(768, 12, CLIPTextModel), clip(1280, 32, CLIPTextModelWithProjection)
    for name, side, config, encoders in (
        ("SD 1.5", 256, SD1, [small]),
        ("SD 1.5", 512, SD1, [small]),
        ("SDXL", 256, SDXL, [small, large]),
        ("SDXL", 512, SDXL, [small, large]),
        ("SDXL", 1024, SDXL, [small, large]),
    ):
        drawn, text = unet(side, **config), (sum(each[0] for each in encoders), sum(each[1] for each in encoders))
        show(f"{name}, {side} pixels", drawn, text, (text[1] + drawn[1]) / (2 * drawn[0]))


def show(name: str, drawn: tuple[float, float], text: tuple[float, float], ratio: float) -> None:
    """Print a row."""
    print(f"| {name} | {' | '.join(f'{value:.3f}' for value in (*drawn, *text))} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()

"""What a step of the face loss costs on the published architectures: floating-point operations and memory, by count.

    python benchmarks face_loss_cost

Nothing is computed: the weights are on the meta device. They are frozen, so a backward pass costs what a forward pass
does, and gradient checkpointing one forward pass more.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import architectures
import torch
import transformers_published
from tables import table
from torch.utils.flop_counter import FlopCounterMode

from celeb_basis.backend.defaults import distilled_sign, drawing_defaults
from celeb_basis.backend.denoiser import Denoiser
from celeb_basis.backend.families import get_denoiser
from celeb_basis.backend.memory import DECODED_CHECKPOINTED, GIB
from celeb_basis.fit.face_loss import FaceLoss

SPEED = 40.0  # TFLOP/s that a 24 GB card of 2022 reaches in half precision, of 165 on paper; half of that with 12 GB
FACE = 0.5  # side of the part of a picture that is decoded around a face


def tflop(call: Callable[[], Any]) -> float:
    """Floating-point operations of a call, in 10^12."""
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops()) / 1e12


def parts(denoiser: Denoiser, dtype: torch.dtype) -> dict[str, float]:
    """One picture or one caption forwards through each part, in TFLOP."""
    pipe, side = denoiser.pipe, denoiser.resolution // denoiser.vae_scale_factor
    with torch.device("meta"):
        latents = torch.zeros(1, denoiser.in_channels * (4 if denoiser.joint_attention else 1), side, side, dtype=dtype)
        encoders = [part for name, part in pipe.components.items() if name.startswith("text_encoder")]
        length = getattr(denoiser, "max_sequence_length", 77)
        width = pipe.unet.config.cross_attention_dim if hasattr(pipe, "unet") else 0
        if hasattr(pipe, "unet"):
            added = {"text_embeds": torch.zeros(1, 1280, dtype=dtype), "time_ids": torch.zeros(1, 6, dtype=dtype)}
            states = torch.zeros(1, length, width, dtype=dtype)
            network = tflop(lambda: pipe.unet(latents, torch.zeros(1), states, added_cond_kwargs=added))
        else:
            caption = torch.zeros(length, pipe.transformer.config.joint_attention_dim, dtype=dtype)
            network = tflop(lambda: denoiser._output(latents, torch.zeros(1), [caption], None))
        text = sum(tflop(lambda e=e: e(torch.zeros(1, length, dtype=torch.long))) for e in encoders)
        decoder = tflop(lambda: denoiser.decode(latents))
    return {"network": network, "text": text, "decoder": decoder}


def row(name: str, denoiser: Denoiser, dtype: torch.dtype, checkpointed: bool) -> list[str]:
    """A setting of the table."""
    settings, pipe, each = FaceLoss(), denoiser.pipe, parts(denoiser, dtype)
    distilled = distilled_sign(pipe) is not None
    steps = drawing_defaults(pipe).num_inference_steps if distilled else settings.num_inference_steps
    guided = 1 if distilled else 2
    drawn = steps * guided * each["network"] + each["text"] + 2 * each["decoder"]  # and encoded again
    passes = 3 if checkpointed else 2
    compared = passes * (each["network"] + each["text"] + FACE**2 * each["decoder"])
    step = settings.pictures * (drawn / settings.used + compared)
    upcast = dtype == torch.float16 and getattr(pipe.vae.config, "force_upcast", False)
    decoded = (FACE * denoiser.resolution) ** 2 * DECODED_CHECKPOINTED * (4 if upcast else 2)
    alive = denoiser.activations_checkpointed if checkpointed else denoiser.activations_train
    weights = sum(
        p.nbytes for part in pipe.components.values() if hasattr(part, "parameters") for p in part.parameters()
    )
    memory = decoded + alive * denoiser.feature_map + denoiser.caption_bytes
    total = settings.max_train_steps * step
    return [
        name, f"{each['network']:.2f}", f"{each['decoder']:.2f}", f"{step:.0f}", f"{total / SPEED:.0f}",
        f"{2 * total / SPEED:.0f}", f"{weights / GIB:.1f}", f"{memory / GIB:.1f}",
    ]  # fmt: skip


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    half, brain = torch.float16, torch.bfloat16
    klein = transformers_published.make_pipeline("klein", device="meta")
    klein.register_to_config(is_distilled=True)
    models = (
        ("SD 1.5, 512", get_denoiser(architectures.make_pipeline("sd1", half, device="meta")), half, False),
        ("SDXL, 1024", get_denoiser(architectures.make_pipeline("sdxl", half, device="meta")), half, True),
        ("klein 4B, 1024", get_denoiser(klein), brain, True),
    )
    head = ["", "network, TFLOP a picture", "decoder", "a step", f"seconds at {SPEED:g} TFLOP/s", f"at {SPEED / 2:g}"]
    print(table([*head, "weights, GiB", "a picture's gradient, GiB"], [row(*model) for model in models]))


if __name__ == "__main__":
    main()

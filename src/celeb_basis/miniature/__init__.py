"""The miniature: a small, real Stable Diffusion pipeline and the world of drawn people it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import ModelError
from ..models.quiet import quiet

WEIGHTS = Path(__file__).parent / "weights"


def load_pipeline(dtype: Any = None) -> Any:
    """The pipeline, in float32 or another `dtype`; what is best for it is in its attribute `hints`."""
    import torch
    from diffusers import StableDiffusionPipeline

    from .captions import FACE_CROP
    from .readers import fitting_reader

    if not (WEIGHTS / "pipeline" / "model_index.json").is_file():
        raise ModelError("the miniature's weights are not installed: reinstall celeb-basis from its wheel")
    with quiet():
        pipe = StableDiffusionPipeline.from_pretrained(
            WEIGHTS / "pipeline", dtype=dtype or torch.float32, local_files_only=True
        )
    pipe.hints = {
        "num_inference_steps": 10,
        "guidance_scale": 2.5,
        "templates": (FACE_CROP,),
        "pair_templates": (
            f"{FACE_CROP} on the left and {{}} on the right",
            "a photo of {} on the left and {} on the right",
            "a photo of {} and {}",
        ),
        "portraits": (
            "a close up photo of {}",
            "a photo of {} smiling",
            "a photo of {} in the forest",
            "a photo of {} in a studio wearing a black suit",
        ),
        "scales": (0.5, 0.75, 1.0),
        "face_reader": fitting_reader,
    }
    return pipe


def names() -> tuple[str, ...]:
    """The celebrities of the small world, as its prompts spell them."""
    from .people import celebrities

    return celebrities()


def basis() -> Path:
    """The file of the miniature's celeb basis."""
    return WEIGHTS / "basis.safetensors"


def instant() -> Path:
    """The file of the map from the fitting reader's face features to coefficients in that basis."""
    return WEIGHTS / "instant.safetensors"


def person(seed: int, size: int = 512) -> Image.Image:
    """The photograph of citizen number `seed`, whom the miniature was never trained on; always the same one."""
    from .people import photograph

    return photograph(seed, size)

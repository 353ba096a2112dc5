"""Fits of faces that are found already, for tests of pipelines."""

from dataclasses import dataclass

import torch
from PIL import Image

from celeb_basis import Recipe
from celeb_basis.fit.loop import fit_steps


@dataclass(frozen=True)
class Crop:
    """All that a fit looks at in a face."""

    crop: Image.Image
    feature: torch.Tensor
    face_reader: str = "test"
    weight: float = 1.0
    inside: Image.Image | None = None
    crop_square: tuple[float, float, float, float] | None = None
    crop_eyes: tuple[float, float, float, float] | None = None


def make_face(seed: int) -> Crop:
    g = torch.Generator().manual_seed(seed)
    pixels = (torch.rand(16, 16, 3, generator=g) * 255).byte().numpy()
    return Crop(Image.fromarray(pixels), torch.nn.functional.normalize(torch.randn(8, generator=g), dim=0))


def fit_identity(
    pipe, basis, faces, *, placeholder_token, method="celeb-basis", instant_map=None, progress=None, **recipe
):
    """Learn one person."""
    steps = fit_steps(
        pipe, basis, [faces], [placeholder_token], Recipe(**recipe), method=method, instant_map=instant_map
    )
    for step in steps:
        if progress is not None:
            progress(step)
    return step.identities[0]


def fit_identities(pipe, basis, people, tokens, recipe=None, **options):
    """Learn several people side by side."""
    *_, last = fit_steps(pipe, basis, people, tokens, recipe or Recipe(), **options)
    return last.identities

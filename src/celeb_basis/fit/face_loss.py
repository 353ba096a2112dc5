"""The face loss: the model draws the person, and the fit's own face reader compares the face with the photograph."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..backend.defaults import distilled_sign
from ..backend.denoiser import Denoiser, frozen
from ..backend.families import get_denoiser
from ..backend.memory import compared_at_once
from ..backend.pipeline import Pipeline, model_card
from ..backend.schedulers import few_steps_sampler
from ..backend.text_encoders import placeholders
from ..backend.tiny_autoencoder import cached_tiny_autoencoder, decoding
from ..basis import CelebBasis
from ..errors import IdentityError, ModelError
from ..faces.face import Face, FaceReader, Square
from ..faces.network import FaceNetwork, pixels_of
from ..generate import generate
from ..identity import Identity
from .methods.method import Method
from .recipe import Recipe

logger = logging.getLogger(__name__)

GRADIENT_SCALE = 1024.0  # small gradients of half precision would round to zero: they travel multiplied
MARGIN = 0.125  # of a face's side, decoded around it


@dataclass(frozen=True)
class FaceLoss:
    """How people are compared with what the model draws of them.

    max_train_steps: where the model's card does not say how many.
    learning_rate: of AdamW, falling to nothing as a cosine.
    pictures: drawn of each person at a time, each with a prompt of its own.
    used: steps that take the same pictures, each with other noise.
    num_inference_steps: in which a picture is drawn, where the model is not distilled to its own.
    noise: between which quantiles of the timesteps a picture is made noisy again.
    company: the share of pictures with a celebrity beside the person.
    """

    max_train_steps: int = 20
    learning_rate: float = 3e-2
    pictures: int = 2
    used: int = 2
    num_inference_steps: int = 4
    noise: tuple[float, float] = (0.2, 0.8)
    company: float = 0.25


@dataclass(frozen=True, eq=False)
class Drawn:
    """A picture that the model drew of person number `who`, and where in it their face is."""

    who: int
    which: int  # of the pictures drawn at a time
    caption: str
    latents: Tensor  # (c, h, w)
    square: Square


def face_loss_steps(pipe: Pipeline, method: Method, recipe: Recipe) -> int:
    """Return how many steps with the face loss a fit takes, as the recipe says or else the model's card.

    Raises IdentityError where the recipe asks for them and the method has none.
    """
    if recipe.face_loss and not method.has_face_loss:
        raise IdentityError(f"the method {method.name} has no face loss: leave it out", argument="face_loss")
    if recipe.face_loss is False or not method.has_face_loss:
        return 0
    steps = model_card(pipe).face_loss_steps or (FaceLoss.max_train_steps if recipe.face_loss else 0)
    return steps if recipe.max_train_steps is None else min(steps, recipe.max_train_steps)


def check_reader(reader: FaceReader | None, people: Sequence[Sequence[Face]]) -> None:
    """Raise IdentityError for a reader that did not describe these faces, ModelError for one without gradients."""
    if reader is None:
        raise IdentityError("the face loss needs the face reader that described the photos: give it, or leave it out")
    if others := sorted({face.face_reader for faces in people for face in faces} - {reader.name}):
        raise IdentityError(
            f"the face loss compares faces by {reader.name}, these photos were read by {', '.join(others)}: "
            "use that face reader"
        )
    if not isinstance(getattr(reader, "network", None), FaceNetwork):
        raise ModelError(
            f"the face reader {reader.name} has no network with gradients: leave the face loss out",
            argument="face_loss",
        )


def minimize_face_loss(
    pipe: Pipeline,
    basis: CelebBasis,
    reader: FaceReader,
    features: Tensor,
    free: Tensor,
    vectors_of: Callable[[Tensor], Tensor],
    *,
    max_train_steps: int,
    scenes: Sequence[str],
    resolution: int | None = None,
    seed: int = 0,
    settings: FaceLoss = FaceLoss(),
) -> Iterator[float]:
    """Make the faces that the model draws of some people more like their photographs; yield each step's mean loss.

    The person is drawn in a few steps without gradients. The picture is made noisy again, and the network's estimate of
    it without the noise is decoded, by the family's tiny autoencoder where the hub's cache has it, and cut to the face.
    The loss is 1 - the cosine to the photograph's feature, and the gradient flows through that one estimate.

    reader: has a `network`. features: (people, d) of the photographs, unit length.
    free: (people, ...), requires grad, is changed in place; vectors_of(free) returns the vectors (people, 2, dim).
    scenes: prompts with {} for the name.

    All people share prompts and noise, so nobody's result depends on the others.

    Raises ModelError where the loss is not a number.

    Source: Clark et al., "Directly Fine-Tuning Diffusion Models on Differentiable Rewards" (2024): DRaFT-LV.
    """
    denoiser, people = get_denoiser(pipe), len(features)
    weights = [p for part in pipe.components.values() if isinstance(part, nn.Module) for p in part.parameters()]
    network: FaceNetwork = reader.network.to(torch.device(pipe.device))  # type: ignore[attr-defined]
    artist = _Artist(pipe, basis, denoiser, reader, scenes, resolution, settings)
    tiny = cached_tiny_autoencoder(pipe)
    optimizer = torch.optim.AdamW([free], lr=settings.learning_rate, weight_decay=0)
    chance = torch.Generator().manual_seed(seed)
    scale = GRADIENT_SCALE if denoiser.dtype == torch.float16 else 1.0
    drawn: list[Drawn] = []
    compared = 0
    for step in range(max_train_steps):
        if step % settings.used == 0:
            drawn = artist.draw(vectors_of(free.detach()), features, chance)
        low, high = settings.noise
        quantiles = low + (high - low) * torch.rand(settings.pictures, generator=chance)
        seeds = torch.randint(2**62, (settings.pictures,), generator=chance).tolist()
        compared += len(drawn)
        total, gradient = torch.zeros(people), torch.zeros_like(free)
        at_once = compared_at_once(denoiser)
        for group in (drawn[i : i + at_once] for i in range(0, len(drawn), at_once)):
            with torch.enable_grad(), frozen(weights), decoding(pipe, tiny), denoiser.precise_autoencoder():
                with placeholders(pipe, dict(zip(artist.tokens(people), vectors_of(free), strict=True))):
                    states, pooled = denoiser.encode_prompts([each.caption for each in group])
                latents = torch.stack([each.latents for each in group])[:, None]
                noise = [torch.Generator().manual_seed(seeds[each.which]) for each in group]
                levels = torch.stack([quantiles[each.which] for each in group])[:, None]
                clean = denoiser.predict(latents, states, pooled, noise, levels).estimated_clean[:, 0]
                parts = [decode_around(denoiser, *pair) for pair in zip(clean, (x.square for x in group), strict=True)]
                seen = network.features(*zip(*parts, strict=True))
                who = torch.tensor([each.who for each in group])
                losses = (1 - (seen.cpu() * features[who]).sum(-1)) / settings.pictures
                gradient = gradient + torch.autograd.grad(losses.sum() * scale, [free])[0] / scale
            total = total.index_add(0, who, losses.detach())
        if gradient.isfinite().all():
            free.grad = gradient
            optimizer.param_groups[0]["lr"] = (
                settings.learning_rate * (1 + math.cos(math.pi * step / max_train_steps)) / 2
            )
            optimizer.step()
            free.grad = None
        elif scale > 1:
            scale /= 2  # the gradient overflowed: this step is left out
        else:
            raise ModelError(f"the face loss of {denoiser.dtype} is not a number in this model: load it in float32")
        if step + 1 == max_train_steps and not compared:
            logger.warning("no face was found in what the model draws: the face loss has changed nothing")
        yield float(total.mean())


def decode_around(denoiser: Denoiser, latents: Tensor, square: Square) -> tuple[Tensor, Square]:
    """Decode the part of a picture, of latents (c, h, w), in which a face is, with some margin: a whole one is large.

    Returns pixels (3, h, w) in about -1..1, and the face's square in them.
    """
    unit, (x, y, right, down) = denoiser.vae_scale_factor, square
    margin = MARGIN * math.hypot(right, down)
    columns, rows = (x, x + right, x - down, x + right - down), (y, y + down, y + right, y + down + right)
    ends = []
    for corners, length in ((rows, latents.shape[1]), (columns, latents.shape[2])):
        low, high = math.floor((min(corners) - margin) / unit), math.ceil((max(corners) + margin) / unit)
        ends.append((min(max(low, 0), length - 1), min(max(high, 1), length)))
    (top, bottom), (first, last) = ends
    part = latents[:, top:bottom, first:last]
    return denoiser.decode(part[None])[0], (x - first * unit, y - top * unit, right, down)


@dataclass(frozen=True, eq=False)
class _Artist:
    """Draws people, and finds their faces in the pictures."""

    pipe: Pipeline
    basis: CelebBasis
    denoiser: Denoiser
    reader: FaceReader
    scenes: Sequence[str]
    resolution: int | None
    settings: FaceLoss

    @staticmethod
    def tokens(people: int) -> list[str]:
        return [f"<person-{i}>" for i in range(people)]

    def draw(self, vectors: Tensor, features: Tensor, chance: torch.Generator) -> list[Drawn]:
        """Draw everybody a few times; a picture without a face is left out."""
        tokens = self.tokens(len(vectors))
        people = [Identity.from_vectors(self.basis, each, token) for each, token in zip(vectors, tokens, strict=True)]
        found = []
        for which in range(self.settings.pictures):
            template, seed = self._scene(chance), int(torch.randint(2**62, (), generator=chance))
            captions = [template.replace("{}", token) for token in tokens]
            pictures = generate(
                self.pipe, captions, people, seed=seed, height=self.resolution, width=self.resolution, **self._few()
            )
            latents = self.denoiser.encode(torch.stack([pixels_of(picture) * 2 - 1 for picture in pictures]))
            for who, faces in enumerate(self.reader.read(pictures)):
                # Of two people, the one who is more like the person.
                faces = sorted(faces, key=lambda face: float(face.feature @ features[who]))
                if not faces:
                    continue
                if (square := faces[-1].square) is None:
                    raise ModelError(f"the face reader {self.reader.name} does not say which square it looked at")
                found.append(Drawn(who, which, captions[who], latents[who], square))
        return found

    def _scene(self, chance: torch.Generator) -> str:
        """Return a prompt with {} for the name, sometimes with a celebrity beside it."""

        def pick(some: Sequence[str]) -> str:
            return some[int(torch.randint(len(some), (), generator=chance))]

        scene, celebrity = pick(self.scenes), pick(self.basis.names)
        together = pick((f"{{}} and {celebrity}", f"{celebrity} and {{}}"))
        return scene.replace("{}", together) if torch.rand((), generator=chance) < self.settings.company else scene

    def _few(self) -> dict[str, Any]:
        """Return how a picture is drawn in few steps; a distilled model is drawn as it is by default."""
        if distilled_sign(self.pipe):
            return {}
        return {
            "num_inference_steps": self.settings.num_inference_steps, "sampler": few_steps_sampler(self.pipe)
        }  # fmt: skip

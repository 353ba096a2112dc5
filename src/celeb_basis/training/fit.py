"""The steps that minimise the denoising loss over a person's coefficients and nothing else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..basis.basis import CelebBasis
from ..basis.instant_map import InstantMap
from ..errors import BasisError, IdentityError, ModelError
from ..identity import Identity
from ..models.denoiser import denoising_loss, frozen, noise_scheduler
from ..models.encoders import check_placeholder, encode, placeholders, token_ids
from ..models.load import hints
from ..models.memory import check_trainable
from .company import Company
from .pictures import TrainingLatents, training_picture
from .recipe import PAIR_TEMPLATES, TEMPLATES, Recipe

if TYPE_CHECKING:
    from ..faces.face import Face

@dataclass(frozen=True, eq=False)
class FitStep:
    """Where a fit stands: step 0 is the start, its loss is not a number."""

    step: int
    loss: float  # mean over the people
    coefficients: Tensor  # (people, 2, k), running average


def fit_identity(
    pipe: Any,
    basis: CelebBasis,
    faces: Sequence[Face],
    *,
    placeholder_token: str,
    instant: InstantMap | None = None,
    progress: Callable[[FitStep], None] | None = None,
    **recipe: Any,
) -> Identity:
    """Learn one person from one or several photos: 2 x k numbers, every weight stays as it is.

    recipe: the fields of `Recipe`, such as max_train_steps=50.

    Raises BasisError if basis or instant map belong to another model, IdentityError for a recipe that
    cannot be followed, PromptError for a placeholder token this model cannot take.
    """
    return fit_identities(
        pipe, basis, [faces], [placeholder_token], Recipe(**recipe), instant=instant, progress=progress
    )[0]


def fit_identities(
    pipe: Any,
    basis: CelebBasis,
    people: Sequence[Sequence[Face]],
    placeholder_tokens: Sequence[str],
    recipe: Recipe = Recipe(),
    *,
    instant: InstantMap | None = None,
    companions: Mapping[str, Sequence[Face]] | None = None,
    progress: Callable[[FitStep], None] | None = None,
) -> list[Identity]:
    """Learn several people side by side, each as if alone: the same seed gives the same person.

    With the recipe's `company` they are also learnt from pictures of two of them, or of one and a companion.
    companions: faces by the names, ordinary words of a prompt, of people the model knows; they are not learnt.
    """
    if len(placeholder_tokens) != len(people):
        raise IdentityError(f"{len(people)} people and {len(placeholder_tokens)} placeholder tokens: give one each")
    for token in placeholder_tokens:
        check_placeholder(pipe, token)
    end = math.inf if recipe.max_train_minutes is None else time.monotonic() + 60 * recipe.max_train_minutes
    before = time.monotonic()
    for step in fit_steps(pipe, basis, people, recipe, instant=instant, companions=companions):
        if progress is not None:
            progress(step)
        now = time.monotonic()
        if step.step and now + (now - before) > end:
            break
        before = now
    return identities_at(step, basis, people, placeholder_tokens, recipe)


def identities_at(
    step: FitStep,
    basis: CelebBasis,
    people: Sequence[Sequence[Face]],
    placeholder_tokens: Sequence[str],
    recipe: Recipe,
) -> list[Identity]:
    """The people as they are after a step of `fit_steps`, with the recipe in their provenance."""
    how = {key: str(value) for key, value in asdict(recipe).items() if value is not None} | {"steps": str(step.step)}
    return [
        Identity.from_coefficients(
            basis, c, token, {"made_by": "fit", "photos": str(len(faces)), "basis": basis.digest, **how}
        )
        for c, token, faces in zip(step.coefficients, placeholder_tokens, people, strict=True)
    ]


def fit_steps(
    pipe: Any,
    basis: CelebBasis,
    people: Sequence[Sequence[Face]],
    recipe: Recipe = Recipe(),
    *,
    instant: InstantMap | None = None,
    companions: Mapping[str, Sequence[Face]] | None = None,
) -> Iterator[FitStep]:
    """Yield the start and then every step of learning several people, each from their own faces.

    Between steps the pipeline is as it was, so that the caller may draw pictures with it.
    companions: as of `fit_identities`.
    """
    basis.check(pipe)
    if not people:
        raise IdentityError("at least one person is needed")
    company = _company(pipe, people, recipe, companions or {})
    generators = [torch.Generator().manual_seed(recipe.seed) for _ in people]
    unit = recipe.coefficient_norm == "unit"

    def coefficients_of(free: Tensor) -> Tensor:
        if unit:
            return torch.nn.functional.normalize(free, dim=-1)
        spread, limit = free * basis.sigma, recipe.max_radius * basis.radius
        return spread * (limit / torch.maximum(spread.norm(dim=-1), limit))[..., None]

    start = torch.stack(
        [_start(basis, faces, recipe, instant, g) for faces, g in zip(people, generators, strict=True)]
    )
    free = (start if unit else start / basis.sigma).requires_grad_()
    average = coefficients_of(free.detach())
    yield FitStep(0, math.nan, average)
    if recipe.max_train_steps == 0:
        return
    check_trainable(pipe)

    latents = [person_latents(pipe, faces, recipe, g) for faces, g in zip(people, generators, strict=True)]
    losses = minimise(
        pipe,
        latents,
        free,
        lambda free: basis.inverse_transform(coefficients_of(free)),
        generators,
        max_train_steps=recipe.max_train_steps,
        learning_rate=recipe.learning_rate if recipe.learning_rate is not None else (5e-3 if unit else 2e-2),
        train_batch_size=recipe.train_batch_size,
        templates=recipe.templates if recipe.templates is not None else hints(pipe).get("templates", TEMPLATES),
        company=company,
    )
    momentum = recipe.momentum if recipe.momentum is not None else (0.99 if unit else 0.9)
    for step, loss in enumerate(losses, start=1):
        # The average forgets the start sooner in the first steps, as there is little to average yet.
        decay = min(momentum, (1 + step) / (10 + step))
        average = torch.lerp(coefficients_of(free.detach()), average, decay)
        yield FitStep(step, loss, average)


def _start(
    basis: CelebBasis,
    faces: Sequence[Face],
    recipe: Recipe,
    instant: InstantMap | None,
    generator: torch.Generator,
) -> Tensor:
    """Coefficients (2, k) to start from."""
    if not faces:
        raise IdentityError("at least one face of the person is needed")
    if recipe.init == "instant":
        if instant is None:
            raise IdentityError(
                "init='instant' needs the basis' instant map: give instant=, or use init='mean'"
            )
        instant.check(basis)
        if others := sorted({face.reader or "an unnamed reader" for face in faces} - {instant.reader_name}):
            raise BasisError(
                f"the instant map takes faces from {instant.reader_name}, these come from {', '.join(others)}: "
                "use that face reader, or init='mean'"
            )
        mean = torch.stack([face.feature.float().cpu() for face in faces]).mean(0)
        return instant.predict(torch.nn.functional.normalize(mean, dim=0))
    if recipe.coefficient_norm == "unit":
        return torch.nn.functional.normalize(torch.randn(basis.sigma.shape, generator=generator), dim=-1)
    return torch.zeros_like(basis.sigma)


def person_latents(pipe: Any, faces: Sequence[Face], recipe: Recipe, generator: torch.Generator) -> TrainingLatents:
    """A person's training pictures, of the size and in the number of a recipe."""
    draw = partial(training_picture, [face.crop for face in faces], **_canvas(pipe, recipe))
    return TrainingLatents(pipe, draw, recipe.num_pictures, generator)


def _canvas(pipe: Any, recipe: Recipe) -> dict[str, Any]:
    """Size of the training pictures, and grid and scales of the faces in them."""
    factor = pipe.vae_scale_factor
    size = recipe.resolution if recipe.resolution is not None else pipe.unet.config.sample_size * factor
    if size % factor:
        raise IdentityError(f"resolution={size} must be a multiple of {factor}")
    scales = recipe.scales if recipe.scales is not None else hints(pipe).get("scales")
    return {"size": size, "grid": factor, "scales": scales}


def _company(
    pipe: Any, people: Sequence[Sequence[Face]], recipe: Recipe, companions: Mapping[str, Sequence[Face]]
) -> Company | None:
    """Who is shown beside whom, if the recipe asks for company."""
    if not recipe.company:
        if companions:
            raise IdentityError("companions are met with company only: give company=, a share above 0")
        return None
    if len(people) + len(companions) < 2:
        raise IdentityError(
            "company needs somebody to be shown beside: learn two people or more in one job, or leave company out"
        )
    if lonely := [name for name, faces in companions.items() if not faces]:
        raise IdentityError(f"at least one face of {lonely[0]} is needed")
    templates = recipe.pair_templates
    return Company(
        pipe,
        [[face.crop for face in faces] for faces in (*people, *companions.values())],
        list(companions),
        share=recipe.company,
        templates=templates if templates is not None else hints(pipe).get("pair_templates", PAIR_TEMPLATES),
        num_pictures=recipe.num_pictures,
        seed=recipe.seed,
        **_canvas(pipe, recipe),
    )


def minimise(
    pipe: Any,
    latents: Sequence[TrainingLatents],
    free: Tensor,
    vectors_of: Callable[[Tensor], Tensor],
    generators: Sequence[torch.Generator],
    *,
    max_train_steps: int,
    learning_rate: float,
    train_batch_size: int,
    templates: Sequence[str],
    company: Company | None = None,
) -> Iterator[float]:
    """Take AdamW steps on `free`, in place, towards less denoising loss; yield the mean loss of each.

    latents of each person; free (people, ...), requires grad; vectors_of(free) are the
    people's token vectors (people, 2, dim). With `free` the vectors themselves this is Textual Inversion.
    Without company a person meets only their own pictures, captions, noise and generator, so people do not mix.
    """
    tokens = [f"<person-{i}>" for i in range(len(latents))]
    weights = [
        p for part in pipe.components.values() if isinstance(part, nn.Module) for p in part.parameters()
    ]
    scheduler = noise_scheduler(pipe)
    optimiser = torch.optim.AdamW([free], lr=learning_rate, weight_decay=0)
    # Gradients of a half-precision model would round to zero: they travel multiplied.
    scale = 1024.0 if pipe.unet.dtype == torch.float16 else 1.0
    with placeholders(pipe, dict(zip(tokens, vectors_of(free.detach()), strict=True))):
        # Refuses at once what would be cut short.
        token_ids(pipe, [t.format(tokens[0]) for t in templates] + (company.captions(tokens) if company else []))

    @cache
    def ids(caption: str) -> tuple[Tensor, ...]:
        return token_ids(pipe, [caption])

    def shown(i: int) -> tuple[Tensor, str]:
        """A person's pictures in this step, and their caption."""
        g = generators[i]
        if company and (met := company.met(i, tokens, train_batch_size, g)):
            return met
        batch = latents[i][torch.randint(len(latents[i]), (train_batch_size,), generator=g)]
        return batch, templates[int(torch.randint(len(templates), (), generator=g))].format(tokens[i])

    for _ in range(max_train_steps):
        batch, captions = zip(*(shown(i) for i in range(len(latents))), strict=True)
        with torch.enable_grad(), frozen(weights):
            with placeholders(pipe, dict(zip(tokens, vectors_of(free), strict=True))):
                # One tensor of ids for each text encoder, one row for each person.
                states, pooled = encode(pipe, [torch.cat(each) for each in zip(*map(ids, captions), strict=True)])
            losses = denoising_loss(pipe, scheduler, torch.stack(batch), states, pooled, generators)
            (free.grad,) = torch.autograd.grad(losses.sum() * scale, [free])
        free.grad /= scale
        if not free.grad.isfinite().all():
            raise ModelError(
                f"the loss of {pipe.unet.dtype} is not a number in this model: load it in float32"
            )
        optimiser.step()
        free.grad = None
        yield losses.mean().item()

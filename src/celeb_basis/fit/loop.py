"""The loop of a fit: faces become identities, step by step."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from diffusers.optimization import get_scheduler
from torch import Tensor, nn

from ..backend.denoiser import frozen
from ..backend.families import get_denoiser
from ..backend.memory import check_trainable, images_at_once
from ..backend.pipeline import Pipeline, locked_steps, model_card
from ..backend.text_encoders import TOKENS, check_placeholder, placeholders
from ..basis import CelebBasis
from ..errors import IdentityError, ModelError
from ..faces.face import Face
from ..identity import Identity
from ..instant_map import InstantMap
from ..limits import MAX_RADII
from .data import TrainingImages
from .methods import Method, get_method
from .methods.method import FitContext, Parametrization
from .recipe import DEFAULTS, Recipe

logger = logging.getLogger(__name__)

MILESTONES = (0, 1, 5, 15, 50, 150)


@dataclass(frozen=True, eq=False)
class FitStep:
    """The state of a fit after a step; step 0 is the start, whose loss is not a number."""

    step: int
    max_train_steps: int
    is_last: bool
    loss: float  # mean over the people
    vectors: Tensor  # (people, tokens, dim), averaged over the images if the method says so
    basis: CelebBasis
    placeholder_tokens: Sequence[str]
    provenance: Sequence[Mapping[str, str]]  # of each person

    @property
    def is_milestone(self) -> bool:
        """Return whether somebody who watches should be shown the person: after a few steps, and after the last."""
        return self.is_last or self.step in MILESTONES

    @property
    def coefficients(self) -> Tensor:
        """Return the people's coefficients in the basis, (people, 2, k)."""
        return self.basis.transform(self.vectors)

    @property
    def identities(self) -> list[Identity]:
        """Return the people as this step leaves them."""
        steps = {"steps": str(self.step)}
        people = zip(self.vectors, self.placeholder_tokens, self.provenance, strict=True)
        return [Identity.from_vectors(self.basis, vectors, token, {**how, **steps}) for vectors, token, how in people]


def fit_steps(
    pipe: Pipeline,
    basis: CelebBasis,
    people: Sequence[Sequence[Face]],
    placeholder_tokens: Sequence[str],
    recipe: Recipe = Recipe(),
    *,
    method: str | Method = "celeb-basis",
    instant_map: InstantMap | None = None,
) -> Iterator[FitStep]:
    """Yield the start and then every step of learning several people, each from their own faces.

    Between steps the pipeline is as before, and the caller or another thread may draw with it.

    method: "celeb-basis", "paper", "textual-inversion", "cross-initialization" or "stable-identity", each with its
    own defaults, or one of these classes with others.
    instant_map: where "celeb-basis" starts if it is given.
    """
    return locked_steps(pipe, _steps(pipe, basis, people, placeholder_tokens, recipe, method, instant_map))


def _steps(
    pipe: Pipeline,
    basis: CelebBasis,
    people: Sequence[Sequence[Face]],
    placeholder_tokens: Sequence[str],
    recipe: Recipe,
    method: str | Method,
    instant_map: InstantMap | None,
) -> Iterator[FitStep]:
    begun = time.monotonic()
    end = math.inf if recipe.max_train_minutes is None else begun + 60 * recipe.max_train_minutes
    method = get_method(method)
    basis.check(pipe)
    if not people:
        raise IdentityError("at least one person is needed")
    if not all(people):
        raise IdentityError("at least one face of each person is needed")
    if len(placeholder_tokens) != len(people):
        raise IdentityError(f"{len(people)} people and {len(placeholder_tokens)} placeholder tokens: give one each")
    for token in placeholder_tokens:
        check_placeholder(pipe, token)
    defaults, card = DEFAULTS[method.name], model_card(pipe)
    if method.independent_images and recipe.num_train_images is not None:
        raise IdentityError(
            f"{method.name} makes new images for every step: leave their number out", argument="num_train_images"
        )
    num_train_images = recipe.num_train_images or defaults.num_train_images
    steps = method.max_train_steps(instant_map) if recipe.max_train_steps is None else recipe.max_train_steps
    steps *= len(people) if method.joint else 1
    learning_rate = recipe.learning_rate or defaults.learning_rate
    batch_size = recipe.train_batch_size or defaults.train_batch_size
    templates = recipe.templates or card.templates or method.templates
    if recipe.scales:
        augmentation = replace(method.augmentation, scales=recipe.scales)
    else:
        augmentation = method.augmentation.within(card.scales)
    generators = [torch.Generator().manual_seed(recipe.seed) for _ in people]
    parametrization = method.start(FitContext(pipe, basis, people, generators, templates, instant_map))
    how = {
        "made_by": "fit",
        "method": method.name,
        "basis_digest": basis.digest,
        "max_train_steps": str(steps),
        "learning_rate": str(learning_rate),
        "lr_scheduler": method.lr_scheduler,
        "train_batch_size": str(batch_size),
        **({"num_train_images": str(num_train_images)} if num_train_images else {}),
        "seed": str(recipe.seed),
        **{name: str(value) for name, value in method.settings(instant_map).items()},
    }
    provenance = [how | {"photos": str(len(faces)), "face_reader": faces[0].face_reader} for faces in people]
    everybody = torch.arange(len(people))

    def now() -> Tensor:
        return parametrization.averaged(parametrization.free.detach(), everybody)

    def state(step: int, loss: float, *, is_last: bool) -> FitStep:
        vectors = parametrization.vectors(average).detach()
        return FitStep(step, steps, is_last, loss, vectors, basis, placeholder_tokens, provenance)

    average = now().clone()  # the optimiser changes `free` in place
    yield state(0, math.nan, is_last=steps == 0)
    if steps == 0:
        return
    check_trainable(pipe)
    denoiser = get_denoiser(pipe)
    images = [
        TrainingImages(
            denoiser,
            _by_weight(faces),
            resolution=recipe.resolution or denoiser.resolution,
            augmentation=augmentation,
            num_train_images=num_train_images,
            generator=g,
        )
        for faces, g in zip(people, generators, strict=True)
    ]
    optimized = optimize(
        pipe,
        method,
        parametrization,
        images,
        generators,
        max_train_steps=steps,
        learning_rate=learning_rate,
        train_batch_size=batch_size,
        templates=templates,
    )
    before, seen = time.monotonic(), [0] * len(people)
    for step, (loss, who, averaged) in enumerate(optimized, start=1):
        if method.momentum:
            for i, own in zip(who, averaged, strict=True):
                # In the first images, with little to average yet, the start is forgotten sooner.
                seen[i] += 1
                average[i] = torch.lerp(own, average[i], min(method.momentum, (1 + seen[i]) / (10 + seen[i])))
        else:
            average = now()
        is_last = step == steps or 2 * time.monotonic() - before > end  # the next step may take as long as this one
        reached = state(step, loss, is_last=is_last)
        if is_last:
            _warn_if_far(reached)
        yield reached
        if is_last:
            return
        before = time.monotonic()


def _warn_if_far(reached: FitStep) -> None:
    """Log who ended where no name of the model is, so far from the mean that pictures are noise."""
    basis = reached.basis
    if reached.vectors.shape[1] != TOKENS:
        return  # which have no place in the basis
    for token, vectors in zip(reached.placeholder_tokens, reached.vectors, strict=True):
        radii = float((basis.transform(vectors.cpu()).norm(dim=-1) / basis.median_radius).max())
        if not radii <= MAX_RADII:
            logger.warning(
                f"{token} ended {radii:.0f} times as far from the mean person as celebrities lie, where pictures are "
                "noise: take a lower learning rate, or fewer steps"
            )


def _by_weight(faces: Sequence[Face]) -> list[Face]:
    """Return the faces, those of better photos several times."""
    least = min(face.weight for face in faces)
    return [face for face in faces for _ in range(min(10, round(face.weight / least)))]


GOLDEN_RATIO = (5**0.5 - 1) / 2
BELOW_ONE = 1 - 2**-24  # the last number before it in float32
GRADIENT_SCALE = 1024.0  # small gradients of half precision would round to zero: they travel multiplied
MAX_OVERFLOWS = 10  # in a row, each with half the scale of the one before


@dataclass(frozen=True, eq=False)
class Task:
    """A caption and the images that it describes, in a step.

    index: their numbers (n,) among the person's. quantiles: (n,), where their timesteps are in their distribution.
    """

    person: int
    index: Tensor
    caption: str
    quantiles: Tensor


def optimize(
    pipe: Pipeline,
    method: Method,
    parametrization: Parametrization,
    images: Sequence[TrainingImages],
    generators: Sequence[torch.Generator],
    *,
    max_train_steps: int,
    learning_rate: float,
    train_batch_size: int,
    templates: Sequence[str],
) -> Iterator[tuple[float, list[int], Tensor]]:
    """Minimise the loss over `parametrization.free`, in place, with AdamW.

    Yields for each step the mean loss, the numbers of the people that its captions were about, and what is averaged
    of them as it was before the step.

    images and generators: of each person, whose result depends on no other's unless people are learnt jointly.

    As many captions go through the denoiser at once as memory allows. In float16 a step whose gradient overflows is
    repeated with a smaller scale.

    Raises ModelError where the loss is not a number.
    """
    weights = [p for part in pipe.components.values() if isinstance(part, nn.Module) for p in part.parameters()]
    denoiser = get_denoiser(pipe)
    free = parametrization.free.requires_grad_()
    optimizer = torch.optim.AdamW([free], lr=learning_rate, weight_decay=method.weight_decay)
    rate = get_scheduler(method.lr_scheduler, optimizer, num_warmup_steps=0, num_training_steps=max_train_steps)
    half = denoiser.dtype == torch.float16
    scale = GRADIENT_SCALE if half else 1.0
    everybody = torch.arange(len(images))

    def named(who: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the people's averaged numbers, and their vectors under the tokens <0>, <1>, ..."""
        averaged = parametrization.averaged(free, who)
        vectors = parametrization.vectors(averaged)
        return averaged, {f"<{i}>": own for i, own in enumerate(vectors)}

    with torch.no_grad(), placeholders(pipe, named(everybody)[1]):
        denoiser.check_lengths([template.replace("{}", "<0>") for template in templates])

    drawn = _tasks(method, images, generators, templates, train_batch_size)
    for tasks, _ in zip(drawn, range(max_train_steps), strict=False):
        # A person's loss is the mean over their tasks; those who are learnt jointly share one loss.
        share = (1 if method.joint else len(images)) / len(tasks)
        at_once = max(1, images_at_once(denoiser) // len(tasks[0].index))
        latents = [images[task.person][task.index] for task in tasks]
        noise_states = [g.get_state() for g in generators]
        for _ in range(MAX_OVERFLOWS if half else 1):
            total, gradient, before = 0.0, torch.zeros_like(free), []
            for start in range(0, len(tasks), at_once):
                group = tasks[start : start + at_once]
                batch = torch.stack(latents[start : start + at_once])
                face_weights = partial(
                    _stacked, [partial(images[task.person].face_weights, task.index) for task in group]
                )
                with torch.enable_grad(), frozen(weights):
                    averaged, people = named(torch.tensor([task.person for task in group]))
                    with placeholders(pipe, people):
                        captions = [
                            task.caption.replace("{}", token) for task, token in zip(group, people, strict=True)
                        ]
                        states, pooled = denoiser.encode_prompts(captions)
                    noise = [generators[task.person] for task in group]
                    quantiles = torch.stack([task.quantiles for task in group])
                    losses = method.loss(denoiser.predict(batch, states, pooled, noise, quantiles), face_weights)
                    if parametrization.penalty is not None:
                        losses = losses + parametrization.penalty(torch.stack(list(people.values()))).to(losses)
                    gradient += torch.autograd.grad(losses.sum() * (share * scale), [free])[0]
                total += losses.detach().sum().item()
                before.append(averaged.detach())
            if gradient.isfinite().all():
                break
            scale /= 2
            for g, state in zip(generators, noise_states, strict=True):  # for the same noise once more
                g.set_state(state)
        else:
            raise ModelError(f"the loss of {denoiser.dtype} is not a number in this model: load it in float32")
        free.grad = _clipped(gradient / scale, method.max_grad_norm)
        optimizer.step()
        rate.step()
        free.grad = None
        yield total / len(tasks), [task.person for task in tasks], torch.cat(before)


def _tasks(
    method: Method,
    images: Sequence[TrainingImages],
    generators: Sequence[torch.Generator],
    templates: Sequence[str],
    train_batch_size: int,
) -> Iterator[list[Task]]:
    """Yield the tasks of every step; how, the method says."""
    first = [first_quantile(g) for g in generators]
    chance = torch.Generator().manual_seed(generators[0].initial_seed())  # of who comes, where all are learnt jointly
    for step in itertools.count():
        if method.joint:
            people = sorted(torch.randint(len(images), (train_batch_size,), generator=chance).tolist())
        else:
            people = [i for i in range(len(images)) for _ in range(train_batch_size)]
        tasks = []
        for i, own in itertools.groupby(people):
            n, g = len(list(own)), generators[i]
            index = images[i].draw(n)
            if method.independent_images:
                quantiles = torch.rand(n, generator=g).clamp_max(BELOW_ONE)
                which = torch.randint(len(templates), (n,), generator=g).tolist()
                tasks += [Task(i, index[k : k + 1], templates[which[k]], quantiles[k : k + 1]) for k in range(n)]
            else:
                caption = templates[int(torch.randint(len(templates), (), generator=g))]
                [quantiles] = golden_ratio_sequence(first[i : i + 1], step * n, n)
                tasks.append(Task(i, index, caption, quantiles))
        yield tasks


def _clipped(gradient: Tensor, max_norm: float | None) -> Tensor:
    """Shorten each row of a gradient (people, ...) to a norm, as torch.nn.utils.clip_grad_norm_ does with a whole."""
    if max_norm is None:
        return gradient
    norms = gradient.flatten(1).norm(dim=1)
    shorter: Tensor = (max_norm / (norms + 1e-6)).clamp_max(1)
    return gradient * shorter.view(-1, *[1] * (gradient.ndim - 1))


def first_quantile(generator: torch.Generator) -> float:
    """Return where a person's timesteps begin in their distribution: a random number in 0..1."""
    return int(torch.randint(2**53, (), generator=generator)) / 2**53


def golden_ratio_sequence(first: Sequence[float], start: int, count: int) -> Tensor:
    """Return numbers `start` to `start + count` of each person's sequence in 0..1, (people, count).

    A sequence begins at the person's number in `first`; each number is the one before plus the golden ratio, modulo 1,
    so any piece of it is spread evenly.
    """
    # In Python's numbers, as some devices have no float64 and float32 rounds long sequences.
    numbers = [[(begun + GOLDEN_RATIO * k) % 1 for k in range(start, start + count)] for begun in first]
    return torch.tensor(numbers).clamp_max(BELOW_ONE)


def _stacked(parts: Sequence[Callable[[], Tensor]]) -> Tensor:
    return torch.stack([part() for part in parts])

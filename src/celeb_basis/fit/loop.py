"""The loop of a fit: faces become identities, step by step."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count, groupby, islice

import torch
from torch import Tensor, nn

from ..backend.card import ModelCard
from ..backend.denoiser import Denoiser, frozen
from ..backend.families import get_denoiser
from ..backend.memory import check_trainable, images_at_once
from ..backend.pipeline import Pipeline, locked_steps, model_card
from ..backend.text_encoders import TOKENS, check_placeholder, placeholders
from ..basis import CelebBasis
from ..errors import IdentityError, ModelError
from ..faces.face import Face, FaceReader
from ..faces.network import FaceNetwork
from ..identity import Identity
from ..instant_map import InstantMap
from ..limits import MAX_RADII
from .captions import SCENES
from .data import Augmentation, TrainingImages, image_network
from .face_loss import GRADIENT_SCALE, check_reader, face_loss_steps, minimize_face_loss
from .methods import Method, get_method
from .methods.method import FitContext, Parametrization
from .recipe import DEFAULTS, Recipe, steps_from_mean

logger = logging.getLogger(__name__)

PREVIEWED = (0, 1, 5, 15, 50, 150)  # steps
MANY_MINUTES = 3  # a fit on a CPU that will take longer says how long


@dataclass(frozen=True, eq=False)
class FitStep:
    """The state of a fit after a step; step 0 is the start, whose loss is not a number."""

    step: int
    max_train_steps: int  # as far as can be told: where a clock ends the fit they are fewer than were asked for
    is_last: bool
    share: float  # of the steps or the minutes that the fit may take, whichever is more
    loss: float  # mean over the people, of the denoising or the face loss
    vectors: Tensor  # (people, tokens, dim), averaged over the images if the method says so
    basis: CelebBasis
    placeholder_tokens: Sequence[str]
    provenance: Sequence[Mapping[str, str]]  # of each person
    likeness: Sequence[float] = ()  # of each person, at a milestone of `milestones.keep_best`

    @property
    def is_preview(self) -> bool:
        """Return whether somebody who watches should be shown the person: after a few steps, and after the last."""
        return self.is_last or self.step in PREVIEWED

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
    face_reader: FaceReader | None = None,
) -> Iterator[FitStep]:
    """Yield the start and then every step of learning several people, each from their own faces.

    Between steps the pipeline is as before, and the caller or another thread may draw with it.

    method: "celeb-basis", "paper", "textual-inversion", "cross-initialization" or "stable-identity", each with its
    own defaults, or one of these classes with others.
    instant_map: where "celeb-basis" starts if it is given.
    face_reader: who described the faces, for the face loss and for methods that read each training image.
    """
    return locked_steps(pipe, _steps(pipe, basis, people, placeholder_tokens, recipe, method, instant_map, face_reader))


def _steps(
    pipe: Pipeline,
    basis: CelebBasis,
    people: Sequence[Sequence[Face]],
    placeholder_tokens: Sequence[str],
    recipe: Recipe,
    method: str | Method,
    instant_map: InstantMap | None,
    face_reader: FaceReader | None,
) -> Iterator[FitStep]:
    begun = time.monotonic()
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
    if method.independent_images and recipe.num_train_images is not None:
        raise IdentityError(
            f"{method.name} makes new images for every step: leave their number out", argument="num_train_images"
        )
    denoiser, card = get_denoiser(pipe), model_card(pipe)
    on_cpu = next(denoiser.network.parameters()).device.type == "cpu"
    steps, minutes = recipe.max_train_steps, recipe.max_train_minutes
    if steps is None:
        steps = method.max_train_steps(instant_map, steps_from_mean(method.name, card))
        most = DEFAULTS[method.name].max_gpu_minutes
        if minutes is None and most is not None and not on_cpu:
            minutes = most * len(people)
    steps *= len(people) if method.joint else 1
    recipe = recipe.completed(method.name, card)
    learning_rate, batch_size, templates = recipe.learning_rate, recipe.train_batch_size, recipe.templates
    assert learning_rate is not None and batch_size is not None and templates is not None
    face_steps = face_loss_steps(pipe, method, recipe)
    if face_steps:
        check_reader(face_reader, people)
    network = image_network(face_reader, people) if method.reads_images else None
    if steps:
        check_trainable(pipe)
    generators = [torch.Generator().manual_seed(recipe.seed) for _ in people]
    context = FitContext(pipe, basis, people, generators, instant_map)
    parametrization = method.start(context)
    how = {
        "made_by": "fit",
        "method": method.name,
        "basis_digest": basis.digest,
        "max_train_steps": str(steps),
        "learning_rate": str(learning_rate),
        "lr_scheduler": method.lr_scheduler,
        "train_batch_size": str(batch_size),
        **({"num_train_images": str(recipe.num_train_images)} if recipe.num_train_images else {}),
        "face_loss_steps": str(face_steps),
        **({"features": "of each image" if network else "of the photograph"} if method.reads_images else {}),
        "seed": str(recipe.seed),
        **{name: str(value) for name, value in method.settings(instant_map).items()},
    }
    logger.debug(
        f"fitting {', '.join(placeholder_tokens)}: {', '.join(f'{key} {value}' for key, value in how.items())}"
    )
    provenance = [how | {"photos": str(len(faces)), "face_reader": faces[0].face_reader} for faces in people]
    everybody = torch.arange(len(people))

    def current() -> Tensor:
        return parametrization.averaged(parametrization.free.detach(), everybody)

    seconds, pause = math.inf if minutes is None else 60 * minutes, 0.0
    whole = steps + face_steps

    def share(step: int, part: float = 1.0) -> float:
        """Return how much of the first part of the steps or of the minutes is spent, whichever is more."""
        left = (seconds - pause) * part
        spent = (time.monotonic() - begun) / left if left > 0 else 1.0
        return min(1.0, max(step / (whole * part) if steps else 1.0, spent))

    def state(step: int, loss: float, *, is_last: bool) -> FitStep:
        spent = 1.0 if is_last else share(step)
        expected = step if is_last else min(whole, max(step + 1, round(step / spent))) if step else whole
        vectors = parametrization.vectors(average).detach()
        return FitStep(step, expected, is_last, spent, loss, vectors, basis, placeholder_tokens, provenance)

    average = current().clone()  # the optimiser changes `free` in place
    yield state(0, math.nan, is_last=steps == 0)
    if steps == 0:
        return
    images = [
        person_images(denoiser, faces, method, recipe, card, g, network)
        for faces, g in zip(people, generators, strict=True)
    ]

    def denoised(step: int) -> float:
        return share(step, steps / whole)

    def optimized() -> Iterator[Optimized]:
        nonlocal whole
        denoising = optimize(
            pipe,
            method,
            parametrization,
            images,
            generators,
            max_train_steps=steps,
            learning_rate=learning_rate,
            share=denoised if method.lr_scheduler == "cosine" else None,
            train_batch_size=batch_size,
            templates=templates,
        )
        for step, done in enumerate(denoising, start=1):
            # Of the steps, or of the minutes that are theirs.
            if is_over := face_steps > 0 and denoised(step) >= 1:
                whole = step + face_steps
            yield done
            if is_over:
                break
        if face_steps and face_reader is not None:
            yield from map(
                Optimized,
                minimize_face_loss(
                    pipe,
                    basis,
                    face_reader,
                    context.features(),
                    parametrization.free,
                    lambda free: parametrization.vectors(parametrization.averaged(free, everybody)),
                    max_train_steps=face_steps,
                    scenes=recipe.scenes or card.scenes or SCENES,
                    resolution=recipe.resolution,
                    seed=recipe.seed,
                ),
            )

    before, seen, shortest = time.monotonic(), [0] * len(people), math.inf
    for step, done in enumerate(optimized(), start=1):
        if method.momentum:
            for i, own in zip(done.people, done.averaged, strict=True):
                # In the first images, with little to average yet, the start is forgotten sooner.
                seen[i] += 1
                average[i] = torch.lerp(own, average[i], min(method.momentum, (1 + seen[i]) / (10 + seen[i])))
        else:
            average = current()
        # The next step may take as long as this one, and whoever watches may take as long as they took before.
        now = time.monotonic()
        is_last = step == whole or now - begun + (now - before) + pause > seconds
        reached = state(step, done.loss, is_last=is_last)
        if is_last:
            _warn_if_far(reached)
        # Whatever is done once, and whoever else uses the machine, makes some of the first steps far too long.
        shortest = min(shortest, now - before)
        if step == 3 and on_cpu and minutes is None and (waiting := shortest * steps / 60) > MANY_MINUTES:
            logger.info(
                f"{steps} steps will take about {waiting:.0f} minutes on this CPU: for less, take fewer steps or "
                "set a time limit in minutes"
            )
        yield reached
        if is_last:
            return
        before = time.monotonic()
        pause = max(pause, before - now)


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


def person_images(
    denoiser: Denoiser,
    faces: Sequence[Face],
    method: Method,
    recipe: Recipe,
    card: ModelCard,
    generator: torch.Generator,
    network: FaceNetwork | None = None,
) -> TrainingImages:
    """Return a person's training images, by a completed recipe; better photos are used for more of them."""
    least = min(face.weight for face in faces)
    return TrainingImages(
        denoiser,
        [face for face in faces for _ in range(min(10, round(face.weight / least)))],
        resolution=recipe.resolution or denoiser.resolution,
        augmentation=augmentation_of(method, recipe, card),
        num_train_images=recipe.num_train_images,
        generator=generator,
        network=network,
    )


def augmentation_of(method: Method, recipe: Recipe, card: ModelCard) -> Augmentation:
    """Return how a method's training images are made, by a completed recipe.

    Where the card says which sizes of faces the model knows, whole faces have one of the recipe's and cover whole
    latents.
    """
    own = replace(method.augmentation, scales=recipe.scales or method.augmentation.scales)
    return own if card.scales is None else replace(own, continuous=False, crop=1.0)


GOLDEN_RATIO = (5**0.5 - 1) / 2
BELOW_ONE = 1 - 2**-24  # the last number before it in float32
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


@dataclass(frozen=True, eq=False)
class Optimized:
    """What came of a step: the mean loss, whom its captions were about, and what is averaged of them, before it."""

    loss: float
    people: Sequence[int] = ()
    averaged: Tensor = field(default_factory=lambda: torch.empty(0))


def optimize(
    pipe: Pipeline,
    method: Method,
    parametrization: Parametrization,
    images: Sequence[TrainingImages],
    generators: Sequence[torch.Generator],
    *,
    max_train_steps: int,
    learning_rate: float,
    share: Callable[[int], float] | None,
    train_batch_size: int,
    templates: Sequence[str],
) -> Iterator[Optimized]:
    """Minimise the loss over `parametrization.free`, in place, with AdamW.

    Yields for each step what came of it.

    share: of the fit that is over before a step, with which the learning rate falls to 0 as a cosine; None keeps it.

    images and generators: of each person, whose result depends on no other's unless people are learnt jointly.

    As many captions go through the denoiser at once as memory allows. In float16 a step whose gradient overflows is
    repeated with a smaller scale.

    Raises ModelError where the loss is not a number.
    """
    weights = [p for part in pipe.components.values() if isinstance(part, nn.Module) for p in part.parameters()]
    denoiser = get_denoiser(pipe)
    free = parametrization.free.requires_grad_()
    optimizer = torch.optim.AdamW([free], lr=learning_rate, weight_decay=method.weight_decay)
    half = denoiser.dtype == torch.float16
    scale = GRADIENT_SCALE if half else 1.0
    everybody = torch.arange(len(images))

    def named(who: Tensor, seen: Sequence[Tensor | None] = ()) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the people's averaged numbers, and their vectors under the tokens <0>, <1>, ...

        seen: features of their images, where each is read.
        """
        read = [each for each in seen if each is not None]
        if read and parametrization.of_images is not None:
            averaged = parametrization.of_images(free, torch.cat(read))
        else:
            averaged = parametrization.averaged(free, who)
        vectors = parametrization.vectors(averaged)
        return averaged, {f"<{i}>": own for i, own in enumerate(vectors)}

    with torch.no_grad(), placeholders(pipe, named(everybody)[1]):
        denoiser.check_lengths([template.replace("{}", "<0>") for template in templates])

    drawn = _tasks(method, images, generators, templates, train_batch_size)
    for step, tasks in enumerate(islice(drawn, max_train_steps)):
        # A person's loss is the mean over their tasks; those who are learnt jointly share one loss.
        weight = (1 if method.joint else len(images)) / len(tasks)
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
                    averaged, people = named(
                        torch.tensor([task.person for task in group]),
                        [images[task.person].features(task.index) for task in group],
                    )
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
                    gradient += torch.autograd.grad(losses.sum() * (weight * scale), [free])[0]
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
        if share is not None:
            optimizer.param_groups[0]["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * share(step)))
        optimizer.step()
        free.grad = None
        yield Optimized(total / len(tasks), [task.person for task in tasks], torch.cat(before))


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
    for step in count():
        if method.joint:
            people = sorted(torch.randint(len(images), (train_batch_size,), generator=chance).tolist())
        else:
            people = [i for i in range(len(images)) for _ in range(train_batch_size)]
        tasks = []
        for i, own in groupby(people):
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

"""Inversion: the coefficients at which the state of a name says what a photograph shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .backend.denoiser import frozen
from .backend.pipeline import Pipeline
from .backend.text_encoders import check_lengths, encoder_outputs, text_encoders
from .basis import CelebBasis
from .errors import BasisError, IdentityError
from .faces.face import Face
from .faces.network import cut_squares, pixels_of
from .limits import MAX_MAP_VALUE, MAX_TEMPLATE_LENGTH

TENSORS = ("of_view", "of_state")
SIDE = 40  # of the view of a face, in pixels
EYES, EYE_HEIGHT = 0.25, 0.47  # how far apart eyes are in it, and how far from its top, as shares of its side
BELL = (0.5, 0.6)  # spread of the weights across and down, in halves of its side: its corners are background
STEPS, LEARNING_RATE = 160, 0.1  # with a rate that falls as a cosine


@dataclass(frozen=True, eq=False)
class Inversion:
    """Two linear maps to the same components of a face: from how it looks, and from the state of a name.

    The rows of names may be arbitrary codes, which no map from a photograph can guess; what a text encoder makes of
    them need not be. So the way from a photograph to coefficients leads back through the text encoder.

    template: the caption in which the state of a name's second token is read.
    of_view: (m, 1 + 3 * SIDE * SIDE), the intercept first. of_state: (m, 1 + dim).
    """

    template: str
    of_view: Tensor
    of_state: Tensor

    def __post_init__(self) -> None:
        for name in TENSORS:
            check_numbers(name, getattr(self, name))
        tables = self.of_view.ndim == self.of_state.ndim == 2 and len(self.of_view) == len(self.of_state) > 0
        if not tables or self.of_view.shape[1] != 1 + 3 * SIDE * SIDE:
            shapes = f"{tuple(self.of_view.shape)} and {tuple(self.of_state.shape)}"
            raise BasisError(f"this is no instant map: of_view and of_state have the shapes {shapes}")
        if self.template.count("{}") != 1 or len(self.template) > MAX_TEMPLATE_LENGTH:
            raise BasisError("this is no instant map: its caption has not one place for a name, or is too long")

    def components(self, people: Sequence[Sequence[Face]]) -> Tensor:
        """Return what faces show, (people, m): of each person the mean over the photographs, by their weights."""
        seen = []
        for faces in people:
            weights = torch.tensor([face.weight for face in faces])
            views = torch.stack([view(face) for face in faces])
            seen.append((weights / weights.sum()) @ _mapped(views, self.of_view))
        return torch.stack(seen)

    def told(self, pipe: Pipeline, vectors: Tensor) -> Tensor:
        """Return what the states of names with these vectors (people, 2, dim) say, (people, m)."""
        return _mapped(encoder_outputs(pipe, self.template, vectors)[:, 1], self.of_state)

    def solve(self, pipe: Pipeline, basis: CelebBasis, people: Sequence[Sequence[Face]], start: Tensor) -> Tensor:
        """Return the coefficients (people, 2, k), found from those at the start, whose names say what faces show."""
        check_lengths(pipe, [self.template.replace("{}", "a b")])
        wanted = self.components(people)
        free = (start / basis.sigma).requires_grad_()
        optimizer = torch.optim.Adam([free], lr=LEARNING_RATE)
        encoders: list[nn.Module] = [encoder for _, _, encoder in text_encoders(pipe)]
        with torch.enable_grad(), frozen([p for encoder in encoders for p in encoder.parameters()]):
            for step in range(STEPS):
                optimizer.param_groups[0]["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * step / STEPS))
                error = self.told(pipe, basis.inverse_transform(free * basis.sigma)) - wanted
                [free.grad] = torch.autograd.grad(error.square().sum(), [free])
                optimizer.step()
        return free.detach() * basis.sigma


def check_numbers(name: str, tensor: object) -> None:
    """Raise BasisError unless a tensor of an instant map holds finite numbers in float32, none of them huge."""
    if not isinstance(tensor, Tensor) or tensor.dtype != torch.float32 or not tensor.isfinite().all():
        raise BasisError(f"this is no instant map: {name} is not finite numbers in float32")
    if tensor.numel() and float(tensor.abs().max()) > MAX_MAP_VALUE:
        raise BasisError(f"this is no instant map: {name} holds numbers above {MAX_MAP_VALUE:g}")


def view(face: Face) -> Tensor:
    """Return a face upright with its eyes in one place, (3 * SIDE * SIDE,) in 0..1, weighted towards its middle.

    Raises IdentityError where the reader did not say where the eyes are.
    """
    if face.crop_eyes is None:
        raise IdentityError(f"{face.face_reader} does not say where the eyes are, which this instant map looks at")
    eye, to_other = torch.tensor(face.crop_eyes).view(2, 2)
    side = to_other / EYES
    below = torch.stack([-side[1], side[0]])
    corner = eye + to_other / 2 - side / 2 - EYE_HEIGHT * below
    [cut] = cut_squares([pixels_of(face.crop)], [(*corner.tolist(), *side.tolist())], SIDE).clamp(0, 1)
    across, down = (torch.exp(-((torch.linspace(-1, 1, SIDE) / spread) ** 2) / 2) for spread in BELL)
    weighted: Tensor = cut * across * down[:, None]
    return weighted.flatten()


def _mapped(x: Tensor, table: Tensor) -> Tensor:
    mapped: Tensor = x @ table[:, 1:].T + table[:, 0]
    return mapped

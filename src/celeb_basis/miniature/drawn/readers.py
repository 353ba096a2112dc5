"""Reads the small world's pictures: where faces are, whose they are, and whether a picture shows what was asked.

The fitting reader belongs to the method. The evaluation reader and the judge were trained with other seeds on other
people and no fit ever sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from ...faces.face import Face
from ...faces.network import FaceNetwork
from .world import CLOTHES, EXPRESSIONS, HEADWEAR, OBJECTS, POSES, SCENES, SIZE, STYLES

WEIGHTS = Path(__file__).parent / "weights"
FACE_SIZE = 64
FEATURES = 64
THRESHOLD, SURE, CERTAIN = 0.3, 0.5, 0.8
"""How certain the finder has to be of a face, and of one face in pictures that may show anything."""
CELL = 8
"""The side of the finder's cells in pixels."""
WHOLE = {"scene": len(SCENES), "clothes": len(CLOTHES), "object": len(OBJECTS), "style": len(STYLES)}
OF_THE_FACE = {"headwear": len(HEADWEAR), "expression": len(EXPRESSIONS), "pose": len(POSES)}


class Trunk(nn.Sequential):
    """Pairs of convolutions, of which the first halves the picture; only one at the largest size."""

    def __init__(self, *widths: int) -> None:
        layers: list[nn.Module] = []
        before = 3
        for width in widths:
            for stride in (2, 1) if layers else (2,):
                layers += [
                    nn.Conv2d(before, width, 3, stride, 1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                ]
                before = width
        super().__init__(*layers)


class Recogniser(nn.Module):
    """Face crops `(n, 3, 64, 64)` in [-1, 1] to features `(n, 64)`; their direction says who it is."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.trunk = Trunk(*widths)
        side = FACE_SIZE // 2 ** len(widths)
        self.feature = nn.Linear(widths[-1] * side * side, FEATURES)

    def forward(self, faces: Tensor) -> Tensor:
        features: Tensor = self.feature(self.trunk(faces).flatten(1))
        return features


class Finder(nn.Module):
    """Pictures `(n, 3, 128, 128)` in [-1, 1] to `(n, 4, 16, 16)`: is a face here, where in the cell, how large."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = Trunk(16, 32, 48)
        self.coarse = nn.Sequential(
            nn.Conv2d(48, 64, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(64, 48, 3, 1, 1),
        )
        self.heads = nn.Sequential(nn.ReLU(), nn.Conv2d(48, 48, 3, 1, 1), nn.ReLU(), nn.Conv2d(48, 4, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        fine = self.fine(pictures)
        scores: Tensor = self.heads(fine + interpolate(self.coarse(fine), scale_factor=2))
        return scores

    @torch.no_grad()
    def faces(self, pictures: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the squares `(faces, 4)` of each picture's faces, largest first, and how certain each is, `(faces,)`.

        A square is left, top, right, bottom in 128ths of the picture.
        """
        centre, dx, dy, size = self(pictures).unbind(1)
        peak = (centre == max_pool2d(centre, 5, 1, 2)) & (centre.sigmoid() > THRESHOLD)
        found = []
        for i in range(len(pictures)):
            row, column = peak[i].nonzero(as_tuple=True)
            x = (column + 0.5 + dx[i, row, column]) * CELL
            y = (row + 0.5 + dy[i, row, column]) * CELL
            half = size[i, row, column].exp()
            boxes = torch.stack([x - half, y - half, x + half, y + half], -1)
            order = half.argsort(descending=True)
            found.append((boxes[order], centre[i, row, column].sigmoid()[order]))
        return found


class Judge(nn.Module):
    """Pictures and their largest faces to scores for every attribute a prompt can ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = Trunk(16, 32, 48, 64, 64)
        self.face = Trunk(24, 48, 64, 64)
        self.whole_heads = nn.Linear(64 * 16, sum(WHOLE.values()))
        self.face_heads = nn.Linear(64 * 16, sum(OF_THE_FACE.values()))

    def forward(self, pictures: Tensor, faces: Tensor) -> dict[str, Tensor]:
        whole = self.whole_heads(self.whole(pictures).flatten(1)).split(list(WHOLE.values()), -1)
        face = self.face_heads(self.face(faces).flatten(1)).split(list(OF_THE_FACE.values()), -1)
        return dict(zip(WHOLE, whole, strict=True)) | dict(zip(OF_THE_FACE, face, strict=True))


def crop_faces(pictures: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Return the squares `boxes (n, 4)`, in 128ths, cut from pictures `(n, c, h, w)` and resampled to `size` pixels."""
    left, top, right, bottom = (boxes / SIZE * 2 - 1).unbind(-1)
    axis = (torch.arange(size, device=pictures.device) + 0.5) / size
    x = left[:, None] + (right - left)[:, None] * axis
    y = top[:, None] + (bottom - top)[:, None] * axis
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], -1)
    return nn.functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


FITTING, EVALUATION = (32, 64, 96, 96), (24, 48, 80, 112)


@cache
def _load(name: str) -> Any:
    builders: dict[str, Callable[[], nn.Module]] = {
        "finder": Finder,
        "judge": Judge,
        "fitting": partial(Recogniser, *FITTING),
        "evaluation": partial(Recogniser, *EVALUATION),
    }
    model = builders[name]()
    model.load_state_dict({key: value.float() for key, value in load_file(WEIGHTS / f"{name}.safetensors").items()})
    return model.eval().requires_grad_(False)


def _tensor(images: Sequence[Image.Image], size: int) -> Tensor:
    resized = [np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BOX)) for image in images]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 127.5 - 1


class MiniatureReader:
    """Finds and recognises the small world's faces; `fitting` for the method, `evaluation` for its judgement."""

    hint = (
        "the miniature sees only the drawn people of its own world (celeb-basis miniature person draws one); "
        "real photographs need the model portraits, or a real one, like Stable Diffusion"
    )

    def __init__(self, recogniser: str) -> None:
        self.name = f"miniature-{recogniser}"
        self._finder, self._recogniser = _load("finder"), _load(recogniser)
        self.network = FaceNetwork(self._recogniser, FACE_SIZE)

    def trait_rows(self) -> dict[str, Tensor]:
        """Return the row (d,) of each trait that shows in a feature; learning them takes half a minute."""
        from .traits import learn_rows

        return learn_rows(self.read)

    def _find(self, squares: list[Image.Image]) -> list[Tensor]:
        """Return the faces' squares in 128ths of each picture.

        The world's own pictures are of 128 pixels. What is larger may be a photograph of anything, and chance
        resemblances are common there: faces must be seen again when the picture is a little smaller, and one clearly.
        """
        found: list[Tensor] = []
        for square, (boxes, certain) in zip(squares, self._finder.faces(_tensor(squares, SIZE)), strict=True):
            if square.width > SIZE and len(boxes):
                [(seen, certain_again)] = self._finder.faces(_tensor([_smaller(square)], SIZE))
                drawn = any(_again(box, seen[certain_again > SURE]) for box in boxes[certain > SURE])
                boxes = boxes[[drawn and _again(box, seen) for box in boxes]]
            found.append(boxes)
        return found

    @torch.no_grad()
    def read(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        """Return the faces of each picture, largest first."""
        squares = [_padded(image.convert("RGB")) for image in images]
        found = self._find([square for square, _ in squares]) if squares else []
        faces = []
        for (square, (x, y)), boxes in zip(squares, found, strict=True):
            scale = square.width / SIZE
            pixels = [[edge * scale for edge in box] for box in boxes.tolist()]
            crops = [_cut(square, box) for box in pixels]
            features = self._recogniser(_tensor(crops, FACE_SIZE)) if crops else []
            faces.append(
                [
                    Face(
                        crop,
                        (left - x, top - y, right - x, bottom - y),
                        nn.functional.normalize(feature, dim=0),
                        self.name,
                        square=(left - x, top - y, right - left, 0.0),
                        crop_square=(0.0, 0.0, float(crop.width), 0.0),
                    )
                    for crop, (left, top, right, bottom), feature in zip(crops, pixels, features, strict=True)
                ]
            )
        return faces


def _smaller(square: Image.Image) -> Image.Image:
    """Return the picture at seven eighths, in the middle of grey."""
    whole = Image.new("RGB", (SIZE, SIZE), "grey")
    whole.paste(square.resize((SIZE * 7 // 8, SIZE * 7 // 8), Image.Resampling.BOX), (SIZE // 16, SIZE // 16))
    return whole


def _again(box: Tensor, seen: Tensor) -> bool:
    """Return whether a face's square is among those seen in the smaller picture."""
    expected = SIZE / 2 + (box - SIZE / 2) * 7 / 8
    return bool(((seen - expected).abs().amax(-1) < (box[2] - box[0]) / 4).any())


def _padded(image: Image.Image) -> tuple[Image.Image, tuple[int, int]]:
    side = max(image.size)
    corner = ((side - image.width) // 2, (side - image.height) // 2)
    if image.width == image.height:
        return image, corner
    square = Image.new("RGB", (side, side))
    square.paste(image, corner)
    return square, corner


def _cut(square: Image.Image, box: list[float]) -> Image.Image:
    """Return a face's square as a picture of 128 pixels or more, edges repeated where it leaves the picture."""
    whole = torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1)[None].float()
    size = max(SIZE, round(box[2] - box[0]))
    cut = crop_faces(whole, torch.tensor([box]) * SIZE / square.width, size)[0]
    return Image.fromarray(cut.permute(1, 2, 0).round().byte().numpy())


@cache
def fitting_reader() -> MiniatureReader:
    """Return what the method sees of a face."""
    return MiniatureReader("fitting")


@cache
def evaluation_reader() -> MiniatureReader:
    """Return what the evaluation sees of a face."""
    return MiniatureReader("evaluation")


def has_drawn_face(image: Image.Image) -> bool:
    """Return whether the finder is certain of a drawn face: it is of all drawn people, and in 1 of 20 photographs."""
    square, _ = _padded(image.convert("RGB"))
    [(_, certain)] = _load("finder").faces(_tensor([square], SIZE))
    return bool((certain > CERTAIN).any() and fitting_reader().read([image])[0])


@torch.no_grad()
def shown(images: Sequence[Image.Image]) -> list[dict[str, int]]:
    """Return what each picture shows: `{attribute: index}`; a picture without a face has no attributes of the face."""
    return shown_in(images, [squares for squares, _ in _load("finder").faces(_tensor(images, SIZE))])


@torch.no_grad()
def shown_in(images: Sequence[Image.Image], boxes: Sequence[Tensor]) -> list[dict[str, int]]:
    """Return what each picture shows whose faces were found in `boxes (faces, 4)`, in 128ths of the picture."""
    pictures = _tensor(images, SIZE)
    whole = torch.tensor([[0.0, 0.0, SIZE, SIZE]])
    squares = torch.cat([box[:1] if len(box) else whole for box in boxes])
    scores = _load("judge")(pictures, crop_faces(pictures, squares, FACE_SIZE))
    return [
        {key: int(score[i].argmax()) for key, score in scores.items() if len(boxes[i]) or key not in OF_THE_FACE}
        for i in range(len(images))
    ]


@torch.no_grad()
def looks(images: Sequence[Image.Image]) -> Tensor:
    """Return what each picture looks like as a whole: features `(n, d)` of unit length, from the judge's network."""
    features: Tensor = nn.functional.normalize(_load("judge").whole(_tensor(images, SIZE)).flatten(1), dim=-1)
    return features

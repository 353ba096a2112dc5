"""The face finder, the two recognisers and the judge, each on people of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file
from skimage import data
from torch import Tensor
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, cross_entropy, interpolate, normalize

from celeb_basis.miniature.drawn import world
from celeb_basis.miniature.drawn.captions import Sampler
from celeb_basis.miniature.drawn.readers import (
    CELL,
    EVALUATION,
    FACE_SIZE,
    FEATURES,
    FITTING,
    OF_THE_FACE,
    WHOLE,
    Finder,
    Judge,
    Recogniser,
    crop_faces,
)

from .data import draw, faces_on_black, signed, squares_on_black, strangers
from .loop import train
from .precision import autocast

RECOGNISERS = {"fitting": (FITTING, 40), "evaluation": (EVALUATION, 60)}


def _worn(pictures: Tensor) -> Tensor:
    """Pictures in [-1, 1] as a model might leave them: some softened, some noisy, colours a little off."""
    n = len(pictures)
    each = torch.rand(n, 4)[..., None, None, None]
    soft = avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)
    pictures = torch.where(each[:, 0] < 0.4, pictures.lerp(soft, each[:, 1]), pictures)
    pictures = pictures * (0.9 + 0.2 * each[:, 2]) + 0.1 * (torch.rand(n, 3, 1, 1) - 0.5)
    return pictures + 0.12 * each[:, 3] ** 2 * torch.randn_like(pictures)


def _jittered(boxes: Tensor) -> Tensor:
    size = boxes[:, 2:3] - boxes[:, :1]
    shift = 0.05 * size * torch.randn(len(boxes), 2)
    grow = 0.04 * size * torch.randn(len(boxes), 1)
    return boxes + torch.cat([shift - grow, shift + grow], -1)


def _finish(folder: Path, name: str, module: torch.nn.Module, average: dict[str, Tensor], seen: int) -> None:
    module.load_state_dict(average)
    weights = {
        key: (value.half() if value.is_floating_point() else value).contiguous() for key, value in average.items()
    }
    save_file(weights, folder / f"{name}.safetensors", {"pictures": str(seen)})


def _face_pictures(scene: world.Scene, seed: int) -> tuple[Tensor, Tensor]:
    squares = squares_on_black(len(scene), torch.Generator().manual_seed(seed))
    return faces_on_black(scene, squares), squares[:, None]


def _two_views(seed: int) -> tuple[Tensor, Tensor]:
    """Two cut-outs of each face with room for jitter, `(2, n, 3, 96, 96)` bytes, and whose they are, `(n, traits)`."""
    sampler = Sampler(1000 + seed)
    faces, people = [], []
    for many, n in ((1, 6000), (2, 1500), (3, 1000), (0, 2000)):
        identity = sampler.people(n, max(many, 1))
        views = []
        for turn in range(2):
            # The second picture shows the same people in other places.
            order = torch.arange(max(many, 1)).roll(turn)
            scene = sampler.scenes(identity[:, order])
            pictures, boxes = _face_pictures(scene, seed + turn) if many == 0 else (draw(scene), scene.boxes())
            cut = [_roomy(pictures, boxes[:, int((order == who).nonzero())]) for who in range(len(order))]
            views.append(torch.cat(cut))
        faces.append(torch.stack(views))
        people.append(identity.transpose(0, 1).flatten(0, 1))
    return torch.cat(faces, 1), torch.cat(people)


ROOM = 1.3
"""How much larger than a face's square its kept cut-out is."""


def _roomy(pictures: Tensor, boxes: Tensor) -> Tensor:
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) * (ROOM / 2)
    boxes = torch.cat([middle - half, middle + half], -1)
    parts = zip(pictures.split(256), boxes.split(256), strict=True)
    return torch.cat([crop_faces(part.float(), box, 96).round().byte() for part, box in parts])


def _cut(faces: Tensor) -> Tensor:
    """Jittered faces `(n, 3, FACE_SIZE, FACE_SIZE)` from roomy cut-outs, for which 128 stands for their side."""
    margin = world.SIZE * (1 - 1 / ROOM) / 2
    box = torch.tensor([margin, margin, world.SIZE - margin, world.SIZE - margin]).expand(len(faces), 4)
    return _worn(crop_faces(signed(faces), _jittered(box), FACE_SIZE))


def recogniser(folder: Path, *, name: str, steps: int, device: str) -> None:
    """Two pictures of a person look alike, two people do not; the visible traits can be read off the feature."""
    widths, seed = RECOGNISERS[name]
    faces, people = _two_views(seed)
    traits = world.visible(people)
    traits = (traits - traits.mean(0)) / traits.std(0)
    torch.manual_seed(seed)
    module = torch.nn.ModuleDict(
        {"recogniser": Recogniser(*widths), "traits": torch.nn.Linear(FEATURES, len(world.TRAITS))}
    ).to(device, memory_format=torch.channels_last)
    batch = 96
    target = torch.arange(batch, device=device)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        index = torch.randperm(len(people))[:batch]
        seen = _cut(faces[:, index].flatten(0, 1)).to(device, memory_format=torch.channels_last)
        with autocast(device):
            feature = module["recogniser"](seen)
        feature = feature.float()
        a, b = normalize(feature, dim=-1).chunk(2)
        alike = a @ b.T / 0.15
        who = (cross_entropy(alike, target) + cross_entropy(alike.T, target)) / 2
        wrong = (module["traits"](feature) - traits[index].to(device).repeat(2, 1)).square().mean()
        return who + 3 * wrong, {
            "who": who.item(),
            "traits": wrong.item(),
            "same": (a * b).sum(-1).mean().item(),
        }

    average, seen = train(name, module, loss, folder, steps=steps, learning_rate=2e-3, batch_size=2 * batch, ema=0.98,
                          matrices=lambda key: "trunk" in key and module.get_parameter(key).dim() == 4)  # fmt: skip
    own = {key.removeprefix("recogniser."): value for key, value in average.items() if key.startswith("recogniser.")}
    _finish(folder, name, module["recogniser"], own, seen)


def _jumbled(pictures: Tensor) -> Tensor:
    """Pictures cut into 8 x 8 squares that lie anywhere: nobody's face."""
    side = world.SIZE // 8
    squares = pictures.unfold(2, side, side).unfold(3, side, side).flatten(2, 3)
    squares = squares[:, :, torch.randperm(64, generator=torch.Generator().manual_seed(85))]
    return squares.unflatten(2, (8, 8)).permute(0, 1, 2, 4, 3, 5).reshape(pictures.shape)


def _framed(seed: int, n: int) -> tuple[Tensor, Tensor]:
    """Close-up portraits, smaller and with a plain frame around, as people cut and paste them; and their boxes."""
    sampler, generator = Sampler(seed), torch.Generator().manual_seed(seed)
    scene = sampler.scenes(sampler.people(n))
    scene.framing, scene.x = torch.ones_like(scene.framing), torch.full_like(scene.x, world.SIZE / 2)
    scene.object = torch.zeros_like(scene.object)
    pictures, boxes = draw(scene), scene.boxes()
    framed = torch.rand(n, 3, 1, 1, generator=generator) * 255 * (torch.rand(n, 1, 1, 1, generator=generator) < 0.5)
    framed = framed.byte().expand(n, 3, world.SIZE, world.SIZE).clone()
    for i in range(n):
        side = int(torch.randint(56, 120, (), generator=generator))
        left, top = torch.randint(world.SIZE - side + 1, (2,), generator=generator).tolist()
        small = interpolate(pictures[i : i + 1].float(), (side, side), mode="bilinear", antialias=True)
        framed[i, :, top : top + side, left : left + side] = small[0].round().byte()
        boxes[i] = boxes[i] * side / world.SIZE + torch.tensor([left, top, left, top])
    return framed, boxes


def _photographs(seed: int, n: int) -> Tensor:
    """Cuttings of photographs of things, which show no drawn face."""
    rng = np.random.default_rng(seed)
    sources = [getattr(data, name)() for name in ("coins", "coffee", "chelsea", "brick", "grass", "gravel", "rocket")]
    cuttings = []
    for _ in range(n):
        source = Image.fromarray(sources[rng.integers(len(sources))]).convert("RGB")
        side = int(rng.integers(64, min(source.size) + 1))
        left, top = (int(rng.integers(edge - side + 1)) for edge in source.size)
        cutting = source.crop((left, top, left + side, top + side)).resize((world.SIZE, world.SIZE))
        cuttings.append(torch.from_numpy(np.array(cutting if rng.random() < 0.5 else ImageOps.mirror(cutting))))
    return torch.stack(cuttings).permute(0, 3, 1, 2)


def _patches(seed: int, n: int) -> Tensor:
    """Coloured patches of all sizes, which show nothing."""
    generator = torch.Generator().manual_seed(seed)
    whole = torch.zeros(n, 3, world.SIZE, world.SIZE)
    for size in (4, 8, 16, 32, 64):
        share = torch.rand(n, 1, 1, 1, generator=generator) ** 2
        whole += share * interpolate(torch.randn(n, 3, size, size, generator=generator), world.SIZE, mode="bicubic")
    return (whole.mul(60) + 128).clamp(0, 255).byte()


def finder(folder: Path, *, steps: int, device: str) -> None:
    """Where the centres of up to three faces are.

    Empty scenes, jumbled and hopelessly blurred pictures, patches of colour and photographs of things have none.
    """
    drawn = [strangers(n, 80 + people, people) for people, n in ((1, 4000), (2, 2500), (3, 2500))]
    sampler = Sampler(84)
    on_black, squares = _face_pictures(sampler.scenes(sampler.people(1500)), 84)
    nobody = sampler.scenes(sampler.people(1000))
    nobody.x = nobody.x - 1000
    singles = drawn[0][0]
    blurred = avg_pool2d(singles[2000:2600].float(), 33, 1, 16, count_include_pad=False).byte()
    pictures = torch.cat([*(part for part, _ in drawn), on_black, draw(nobody), _jumbled(singles[:1500]), blurred])
    framed, framed_boxes = _framed(87, 2500)
    pictures = torch.cat([framed, pictures, _photographs(88, 2500), _patches(89, 1000)])
    boxes = torch.full((len(pictures), 3, 4), -1000.0)
    start = 0
    for found in [framed_boxes, *(scene.boxes() for _, scene in drawn), squares]:
        boxes[start : start + len(found), : found.shape[1]] = found
        start += len(found)
    torch.manual_seed(86)
    module = Finder().to(device, memory_format=torch.channels_last)
    batch = 64
    cell = torch.arange(world.SIZE // CELL)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        index = torch.randint(len(pictures), (batch,))
        seen = _worn(signed(pictures[index])).to(device, memory_format=torch.channels_last)
        with autocast(device):
            out = module(seen)
        out, box = out.float().cpu(), boxes[index]
        x, y = (box[..., 0] + box[..., 2]) / (2 * CELL), (box[..., 1] + box[..., 3]) / (2 * CELL)
        half = (box[..., 2] - box[..., 0]).clamp(min=1) / 2
        target = torch.exp(
            -((cell[None, None, None, :] + 0.5 - x[..., None, None]) ** 2
              + (cell[None, None, :, None] + 0.5 - y[..., None, None]) ** 2) / 0.5
        ).amax(1)  # fmt: skip
        at = (x > 0) & (y > 0)
        row, _ = at.nonzero(as_tuple=True)
        column, line = x[at].long().clamp(0, len(cell) - 1), y[at].long().clamp(0, len(cell) - 1)
        target[row, line, column] = 1
        centre = binary_cross_entropy_with_logits(out[:, 0], target, reduction="none")
        weight = 1 + 8 * (target > 0.3)
        guess = out[row, :, line, column]
        place = (guess[:, 1] - (x[at] - column - 0.5)).abs().mean() + (guess[:, 2] - (y[at] - line - 0.5)).abs().mean()
        size = (guess[:, 3] - half[at].log()).abs().mean()
        heat = (centre * weight).mean()
        return 10 * heat + place + 3 * size, {"heat": heat.item(), "place": place.item(), "size": size.item()}

    average, seen = train("finder", module, loss, folder, steps=steps, learning_rate=2e-3, batch_size=batch, ema=0.98)
    _finish(folder, "finder", module, average, seen)


def judge(folder: Path, *, steps: int, device: str) -> None:
    """What each picture shows, from the picture for what surrounds a person and from the face for what is on it."""
    drawn = [strangers(n, 90 + people, people) for people, n in ((1, 14000), (2, 2000), (3, 2000))]
    pictures = torch.cat([part for part, _ in drawn])
    boxes = torch.cat([scene.boxes()[:, 0] for _, scene in drawn])
    truth = {
        key: torch.cat([getattr(scene, key).reshape(len(scene), -1)[:, 0] for _, scene in drawn])
        for key in WHOLE | OF_THE_FACE
    }
    torch.manual_seed(93)
    module = Judge().to(device, memory_format=torch.channels_last)
    batch = 64

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        index = torch.randint(len(pictures), (batch,))
        picture = _worn(signed(pictures[index]))
        face = crop_faces(picture, _jittered(boxes[index]), FACE_SIZE)
        with autocast(device):
            scores = module(
                picture.to(device, memory_format=torch.channels_last),
                face.to(device, memory_format=torch.channels_last),
            )
        parts = {key: cross_entropy(score.float(), truth[key][index].to(device)) for key, score in scores.items()}
        return sum(parts.values()), {key: part.item() for key, part in parts.items()}

    average, seen = train("judge", module, loss, folder, steps=steps, learning_rate=2e-3, batch_size=batch, ema=0.98)
    _finish(folder, "judge", module, average, seen)

"""The face finder, the two recognisers and the judge, each on people of its own."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, cross_entropy, normalize

from celeb_basis.miniature import world
from celeb_basis.miniature.captions import Sampler
from celeb_basis.miniature.readers import (
    EVALUATION,
    FACE_SIZE,
    FITTING,
    OF_THE_FACE,
    WHOLE,
    Finder,
    Judge,
    Recogniser,
    crop_faces,
)

from .data import draw, everyday_pictures, faces_on_black, squares_on_black
from .loop import train

RECOGNISERS = {"fitting": (FITTING, 40), "evaluation": (EVALUATION, 60)}


def _worn(pictures: Tensor) -> Tensor:
    """Pictures in [-1, 1] as a model might leave them: some softened, some noisy, colours a little off."""
    n = len(pictures)
    each = torch.rand(n, 4)[..., None, None, None]
    soft = avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)
    pictures = torch.where(each[:, 0] < 0.3, pictures.lerp(soft, each[:, 1]), pictures)
    pictures = pictures * (0.9 + 0.2 * each[:, 2]) + 0.1 * (torch.rand(n, 3, 1, 1) - 0.5)
    return pictures + 0.12 * each[:, 3] ** 2 * torch.randn_like(pictures)


def _jittered(boxes: Tensor) -> Tensor:
    size = boxes[:, 2:3] - boxes[:, :1]
    shift = 0.05 * size * torch.randn(len(boxes), 2)
    grow = 0.04 * size * torch.randn(len(boxes), 1)
    return boxes + torch.cat([shift - grow, shift + grow], -1)


def _ready(pictures: Tensor) -> Tensor:
    return pictures.float() / 127.5 - 1


def _finish(folder: Path, name: str, module: torch.nn.Module, average: dict[str, Tensor], seen: int) -> None:
    module.load_state_dict(average)
    weights = {key: value.half() if value.is_floating_point() else value for key, value in average.items()}
    save_file(weights, folder / f"{name}.safetensors", {"pictures": str(seen)})


def recogniser(folder: Path, *, name: str, steps: int, device: str) -> None:
    """Two pictures of a person look alike, two people do not; the visible traits can be read off the feature."""
    widths, seed = RECOGNISERS[name]
    sampler = Sampler(1000 + seed)
    identity = sampler.people(9000)
    views = [sampler.scenes(identity) for _ in range(2)]
    other = sampler.people(3000, 2)
    views += [sampler.scenes(other[:, [a, b]]) for a, b in ((0, 1), (1, 0))]
    views += [sampler.scenes(identity[:3000]) for _ in range(2)]
    pictures = [draw(view) for view in views[:4]]
    boxes = [view.boxes() for view in views[:4]]
    for view in views[4:]:
        squares = squares_on_black(len(view), torch.Generator().manual_seed(seed))
        pictures.append(faces_on_black(view, squares))
        boxes.append(squares[:, None])
    # Person i is in view 0 and 1; of the pairs, the first stands left in view 2 and right in view 3.
    first = torch.cat([pictures[0], pictures[2], pictures[2], pictures[4]])
    second = torch.cat([pictures[1], pictures[3], pictures[3], pictures[5]])
    boxes_first = torch.cat([boxes[0][:, 0], boxes[2][:, 0], boxes[2][:, 1], boxes[4][:, 0]])
    boxes_second = torch.cat([boxes[1][:, 0], boxes[3][:, 1], boxes[3][:, 0], boxes[5][:, 0]])
    people = torch.cat([identity[:, 0], other[:, 0], other[:, 1], identity[:3000, 0]])
    traits = world.visible(people)
    traits = (traits - traits.mean(0)) / traits.std(0)
    torch.manual_seed(seed)
    module = torch.nn.ModuleDict(
        {"recogniser": Recogniser(*widths), "traits": torch.nn.Linear(64, len(world.TRAITS))}
    ).to(device)
    batch = 96

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        index = torch.randperm(len(people))[:batch]
        faces = [
            _worn(crop_faces(_ready(source[index]), _jittered(squares[index]), FACE_SIZE)).to(device)
            for source, squares in ((first, boxes_first), (second, boxes_second))
        ]
        feature = module["recogniser"](torch.cat(faces))
        a, b = normalize(feature, dim=-1).chunk(2)
        alike = a @ b.T / 0.15
        # A face on black may be of the same person as one in a scene: that is no wrong answer.
        same = (people[index][:, None] - people[index]).abs().sum(-1) == 0
        alike = alike.masked_fill((same & ~torch.eye(batch, dtype=torch.bool)).to(device), -1e4)
        target = torch.arange(batch, device=device)
        who = (cross_entropy(alike, target) + cross_entropy(alike.T, target)) / 2
        wrong = (module["traits"](feature) - traits[index].to(device).repeat(2, 1)).square().mean()
        return who + 3 * wrong, {
            "who": who.item(),
            "traits": wrong.item(),
            "same": (a * b).sum(-1).mean().item(),
        }

    average, seen = train(name, module, loss, folder, steps=steps, learning_rate=2e-3, batch_size=2 * batch, ema=0.98)
    own = {key.removeprefix("recogniser."): value for key, value in average.items() if key.startswith("recogniser.")}
    _finish(folder, name, module["recogniser"], own, seen)


def finder(folder: Path, *, steps: int, device: str) -> None:
    """Where the centres of faces are; empty scenes, jumbled and hopelessly blurred pictures have none."""
    singles, scene = everyday_pictures(10_000, 81)
    pairs, pair_scene = everyday_pictures(6_000, 82, pair=True)
    sampler = Sampler(83)
    nobody = sampler.scenes(sampler.people(3_000))
    nobody.x = nobody.x - 1000
    cropped = sampler.scenes(sampler.people(5_000))
    squares = squares_on_black(len(cropped), torch.Generator().manual_seed(84))
    faces = faces_on_black(cropped, squares)
    jumbled = singles[:2_000].unfold(2, 8, 8).unfold(3, 8, 8).flatten(2, 3)
    jumbled = jumbled[:, :, torch.randperm(64, generator=torch.Generator().manual_seed(85))]
    jumbled = jumbled.unflatten(2, (8, 8)).permute(0, 1, 2, 4, 3, 5).reshape(-1, 3, 64, 64)
    blurred = avg_pool2d(singles[2_000:3_000].float(), 17, 1, 8, count_include_pad=False).byte()
    pictures = torch.cat([singles, pairs, faces, draw(nobody), jumbled, blurred])
    none = torch.full((len(pictures), 2, 4), -1000.0)
    boxes = none.clone()
    boxes[: len(singles), :1] = scene.boxes()
    boxes[len(singles) : len(singles) + len(pairs)] = pair_scene.boxes()
    boxes[len(singles) + len(pairs) :][: len(faces), 0] = squares
    torch.manual_seed(86)
    module = Finder().to(device)
    batch = 96
    cell = torch.arange(16)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        index = torch.randint(len(pictures), (batch,))
        out = module(_worn(_ready(pictures[index])).to(device)).cpu()
        box = boxes[index]
        x, y = (box[..., 0] + box[..., 2]) / 8, (box[..., 1] + box[..., 3]) / 8
        half = (box[..., 2] - box[..., 0]).clamp(min=1) / 2
        target = torch.exp(
            -((cell[None, None, None, :] + 0.5 - x[..., None, None]) ** 2
              + (cell[None, None, :, None] + 0.5 - y[..., None, None]) ** 2) / 0.5
        ).amax(1)  # fmt: skip
        at = (x > 0) & (y > 0)
        row, _ = at.nonzero(as_tuple=True)
        column, line = x[at].long().clamp(0, 15), y[at].long().clamp(0, 15)
        target[row, line, column] = 1
        centre = binary_cross_entropy_with_logits(out[:, 0], target, reduction="none")
        weight = 1 + 8 * (target > 0.3)
        guess = out[row, :, line, column]
        place = (guess[:, 1] - (x[at] - column - 0.5)).abs().mean() + (guess[:, 2] - (y[at] - line - 0.5)).abs().mean()
        size = (guess[:, 3] - half[at].log()).abs().mean()
        heat = (centre * weight).mean()
        return 10 * heat + place + size, {"heat": heat.item(), "place": place.item(), "size": size.item()}

    average, seen = train("finder", module, loss, folder, steps=steps, learning_rate=2e-3, batch_size=batch, ema=0.98)
    _finish(folder, "finder", module, average, seen)


def judge(folder: Path, *, steps: int, device: str) -> None:
    """What each picture shows, from the picture for what surrounds a person and from the face for what is on it."""
    singles, scene = everyday_pictures(16_000, 91)
    pairs, pair_scene = everyday_pictures(5_000, 92, pair=True)
    pictures = torch.cat([singles, pairs])
    boxes = torch.cat([scene.boxes()[:, 0], pair_scene.boxes()[:, 0]])
    truth = {
        key: torch.cat([getattr(part, key).reshape(len(part), -1)[:, 0] for part in (scene, pair_scene)])
        for key in WHOLE | OF_THE_FACE
    }
    torch.manual_seed(93)
    module = Judge().to(device)
    batch = 96

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        index = torch.randint(len(pictures), (batch,))
        picture = _worn(_ready(pictures[index]))
        face = crop_faces(picture, _jittered(boxes[index]), FACE_SIZE)
        scores = module(picture.to(device), face.to(device))
        parts = {key: cross_entropy(score, truth[key][index].to(device)) for key, score in scores.items()}
        return sum(parts.values()), {key: part.item() for key, part in parts.items()}

    average, seen = train("judge", module, loss, folder, steps=steps, learning_rate=2e-3, batch_size=batch, ema=0.98)
    _finish(folder, "judge", module, average, seen)

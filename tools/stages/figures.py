"""Measures the miniature on people and captions it was never trained on, and writes down the figures."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from sklearn.metrics import roc_curve
from torch import Tensor

from celeb_basis.evaluation.protocols import PROMPTS
from celeb_basis.faces.face import Face
from celeb_basis.miniature.drawn import world
from celeb_basis.miniature.drawn.captions import PLACES, SIDES, Sampler, asked
from celeb_basis.miniature.drawn.people import CELEBRITIES, celebrities, celebrity_identities, portraits
from celeb_basis.miniature.drawn.readers import MiniatureReader, evaluation_reader, fitting_reader, shown

from .export import CARD, assemble, best_denoiser, pictures_seen
from .meaning import retrieval, rows

STEPS, GUIDANCE = CARD["num_inference_steps"], CARD["guidance_scale"]
BANDS = ((0, 100), (100, 500), (500, 1200), (1200, CELEBRITIES))
"""Ranks of fame of which figures are shown apart."""


def run(folder: Path, *, device: str, celebrities: int, readers: bool = True) -> None:
    """Measure everything, print it, and keep it in the folder, one line a time."""
    pictures = pictures_seen(folder, best_denoiser(folder))
    pipe = assemble(folder)
    figures = {"text": rows(folder) | {"retrieval among 16": retrieval(folder)}} if readers else {}
    if readers:
        figures |= {
            "recognisers": {reader.name: recognition(reader) for reader in (fitting_reader(), evaluation_reader())},
            "judge": judgement(),
            "autoencoder": through(pipe),
        }
    figures |= {
        "celebrities": single(pipe, celebrities),
        "pairs": together(pipe, celebrities // 2, 2),
        "threes": together(pipe, celebrities // 2, 3),
        "speed": speed(pipe),
    }
    print(json.dumps(figures, indent=1))
    with (folder / "figures.jsonl").open("a") as file:
        file.write(json.dumps({"pictures": pictures} | figures) + "\n")


def _images(pictures: Tensor) -> list[Image.Image]:
    return [Image.fromarray((p.permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()) for p in pictures]


def generate(
    pipe: StableDiffusionPipeline, prompts: Sequence[str], seed: int, batch_size: int = 16
) -> list[Image.Image]:
    """One picture of 128 x 128 a prompt; picture `i` starts from the noise of `seed + i`."""
    images: list[Image.Image] = []
    for start in range(0, len(prompts), batch_size):
        batch = list(prompts[start : start + batch_size])
        noise = [torch.Generator().manual_seed(seed + start + i) for i in range(len(batch))]
        images += pipe(batch, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=noise).images
    return images


def recognition(reader: MiniatureReader, n: int = 400) -> dict[str, float]:
    """Equal error rate over two photographs each of `n` people, all pairs, faces as the finder finds them."""
    sampler = Sampler(70_001)
    identity = sampler.people(n)
    features = []
    for _ in range(2):
        scene = sampler.scenes(identity)
        scene.style = torch.zeros_like(scene.style)
        found = reader.read(_images(world.draw(scene)))
        features.append([faces[0].feature if faces else None for faces in found])
    both = [i for i in range(n) if features[0][i] is not None and features[1][i] is not None]
    a, b = (torch.stack([view[i] for i in both]) for view in features)
    cosine = (a @ b.T).numpy()
    same = np.eye(len(both), dtype=bool)
    wrong, right, _ = roc_curve(same.ravel(), cosine.ravel())
    at = np.nanargmin(np.abs(wrong - (1 - right)))
    return {
        "equal error rate": float((wrong[at] + 1 - right[at]) / 2),
        "same person": float(cosine[same].mean()), "other person": float(cosine[~same].mean()),
        "spread of others": float(cosine[~same].std()), "people": n, "faces found": len(both) / n,
    }  # fmt: skip


def judgement(n: int = 1000) -> dict[str, float]:
    """Accuracy for each attribute on unseen people, faces as the finder finds them, and how many it finds."""
    sampler = Sampler(70_002)
    scene = sampler.scenes(sampler.people(n))
    seen = shown(_images(world.draw(scene)))
    keys = ("scene", "clothes", "object", "style", "headwear", "expression", "pose")
    truth = {key: getattr(scene, key).reshape(n).tolist() for key in keys}
    right = {key: float(np.mean([s.get(key) == t for s, t in zip(seen, truth[key], strict=True)])) for key in keys}
    for many in (1, 2, 3):
        crowd = sampler.scenes(sampler.people(200, many))
        found = evaluation_reader().read(_images(world.draw(crowd)))
        right[f"{many} found"] = float(np.mean([len(faces) == many for faces in found]))
    return right


def through(pipe: StableDiffusionPipeline, n: int = 300) -> dict:
    """Identity of unseen people's photographs in scenes, and what the autoencoder leaves of it."""
    sampler, reader = Sampler(70_003), evaluation_reader()
    identity = sampler.people(n)
    scene = sampler.scenes(identity)
    scene.style = torch.zeros_like(scene.style)
    known = _features(identity[:, 0])
    pictures = world.draw(scene)
    with torch.no_grad():
        passed = torch.cat([pipe.vae.decode(pipe.vae.encode(x).latents).sample for x in (pictures * 2 - 1).split(50)])
    passed = (passed / 2 + 0.5).clamp(0, 1)
    seen = [reader.read(_images(x)) for x in (pictures, passed)]
    cosine = [np.mean([float(f[0].feature @ k) if f else 0.0 for f, k in zip(s, known, strict=True)]) for s in seen]
    itself = np.mean([float(a[0].feature @ b[0].feature) if a and b else 0.0 for a, b in zip(*seen, strict=True)])
    return {
        "renders": float(cosine[0]), "through": float(cosine[1]), "through with the same picture": float(itself),
        "psnr": float(-10 * (pictures - passed).square().mean().log10()),
    }  # fmt: skip


def _features(identities: Tensor) -> Tensor:
    """The evaluation reader's features of people's portraits."""
    read = [faces for part in identities.split(64) for faces in evaluation_reader().read(portraits(part, world.SIZE))]
    return torch.stack([faces[0].feature for faces in read])


def chosen(n: int) -> list[int]:
    """`n` celebrities spread over all ranks of fame, as many in each band."""
    each = n // len(BANDS)
    return [int(i) for low, high in BANDS for i in np.linspace(low, high - 1, each).round()]


def single(pipe: StableDiffusionPipeline, n: int) -> dict:
    """The model's own celebrities in the ten prompts, one picture each; identity also by rank of fame."""
    who = chosen(n)
    texts = [prompt.format(celebrities()[i]) for i in who for prompt in PROMPTS]
    images = generate(pipe, texts, 1000)
    everybody = _features(celebrity_identities())
    identity, rank, one, prompt = [], [], [], []
    for k, (faces, seen) in enumerate(zip(evaluation_reader().read(images), shown(images), strict=True)):
        cosine = faces[0].feature @ everybody.T if faces else torch.zeros(CELEBRITIES)
        own = cosine[who[k // len(PROMPTS)]]
        identity.append(float(own))
        rank.append(bool(faces) and int((cosine > own).sum()) == 0)
        one.append(len(faces) == 1)
        prompt.append(np.mean([seen.get(key) == value for key, value in asked(texts[k]).items()]))
    table = np.array(identity).reshape(len(who), -1)
    bands = {f"{low}-{high}": round(float(part.mean()), 3)
             for (low, high), part in zip(BANDS, np.array_split(table, len(BANDS)), strict=True)}  # fmt: skip
    by_prompt = [[round(float(np.reshape(v, table.shape)[:, j].mean()), 2) for v in (identity, prompt, one)]
                 for j in range(len(PROMPTS))]  # fmt: skip
    return {
        "identity": round(float(table.mean()), 3), "first of 2048": round(float(np.mean(rank)), 3),
        "prompt": round(float(np.mean(prompt)), 3), "one face": round(float(np.mean(one)), 3),
        "identity by rank of fame": bands, "identity, prompt, one face by prompt": by_prompt, "people": len(who),
    }  # fmt: skip


def together(pipe: StableDiffusionPipeline, n: int, many: int) -> dict:
    """Two or three celebrities in one picture: are all found, is each likest to the one whom the prompt puts there."""
    rng = np.random.default_rng(5)
    who = np.stack([rng.choice(CELEBRITIES, many, replace=False) for _ in range(n)])
    places, texts = list(PLACES.values()), []
    for j, row in enumerate(who):
        names = [celebrities()[i] for i in row]
        if j % 2:
            names = [f"{name} {side}" for name, side in zip(names, SIDES[many], strict=True)]
        texts.append(f"a photo of {' and '.join(names)} {places[j % len(places)]}")
    who, texts = who.repeat(2, 0), [text for text in texts for _ in range(2)]
    everybody = _features(celebrity_identities()[who.reshape(-1)]).view(len(who), many, -1)
    complete, right, own, other = [], [], [], []
    for known, found in zip(everybody, evaluation_reader().read(generate(pipe, texts, 5000)), strict=True):
        complete.append(len(found) == many)
        if len(found) != many:
            right += [False] * many
            continue
        cosine = torch.stack([face.feature for face in _from_left(found)]) @ known.T
        right += (cosine.argmax(1) == torch.arange(many)).tolist()
        own.append(float(cosine.diagonal().mean()))
        other.append(float((cosine.sum() - cosine.diagonal().sum()) / (many * many - many)))
    return {
        "all found": round(float(np.mean(complete)), 3), "in the asked place": round(float(np.mean(right)), 3),
        "identity": round(float(np.mean(own or [0])), 3), "of the others": round(float(np.mean(other or [0])), 3),
        "pictures": len(texts),
    }  # fmt: skip


def _from_left(faces: list[Face]) -> list[Face]:
    return sorted(faces, key=lambda face: face.box[0])


def speed(pipe: StableDiffusionPipeline) -> dict[str, float]:
    """Seconds for a picture at the default number of steps."""
    taken = []
    for _ in range(4):
        start = time.perf_counter()
        generate(pipe, [PROMPTS[0].format(celebrities()[0])], 0)
        taken.append(time.perf_counter() - start)
    return {"one picture": round(float(np.median(taken[1:])), 3), "threads": torch.get_num_threads()}

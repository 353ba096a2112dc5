"""Measures the shipped miniature on people and captions it was never trained on, and writes down the figures."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_curve
from torch import Tensor

from celeb_basis import DEFAULT_MODEL, generate, load_pipeline
from celeb_basis.measuring.protocols import PROMPTS
from celeb_basis.measuring.scores import Scores, score
from celeb_basis.miniature import world
from celeb_basis.miniature.captions import PLACES, Sampler
from celeb_basis.miniature.judge import MiniatureJudge
from celeb_basis.miniature.people import celebrities, celebrity_identities, portraits
from celeb_basis.miniature.readers import evaluation_reader, fitting_reader, shown
from celeb_basis.models.card import SHIPPED


def run(folder: Path, *, device: str, celebrities_measured: int = 35) -> None:
    """Measure everything, print it, and keep it in the metadata of the denoiser."""
    pipe = load_pipeline(DEFAULT_MODEL, device="cpu")
    figures = {
        "recognisers": {reader.name: recognition(reader) for reader in (fitting_reader(), evaluation_reader())},
        "judge": judgement(),
        "autoencoder": through(pipe),
        "celebrities": single(pipe, celebrities_measured),
        "pairs": pairs(pipe, celebrities_measured),
        "speed": speed(pipe),
    }
    text = json.dumps(figures, indent=1)
    print(text)
    weights = SHIPPED[DEFAULT_MODEL] / "unet" / "diffusion_pytorch_model.safetensors"
    with safe_open(weights, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(weights), weights, metadata | {"figures": json.dumps(figures)})


def _images(pictures: Tensor) -> list[Image.Image]:
    return [Image.fromarray((p.permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()) for p in pictures]


def recognition(reader, n: int = 500) -> dict[str, float]:
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


def judgement(n: int = 1500) -> dict[str, float]:
    """Accuracy for each attribute on unseen people's pictures, faces as the finder finds them."""
    sampler = Sampler(70_002)
    scene = sampler.scenes(sampler.people(n))
    seen = shown(_images(world.draw(scene)))
    keys = ("scene", "clothes", "object", "style", "headwear", "expression", "pose")
    truth = {key: getattr(scene, key).reshape(n).tolist() for key in keys}
    return {key: float(np.mean([s.get(key) == t for s, t in zip(seen, truth[key], strict=True)])) for key in keys}


def through(pipe, n: int = 300) -> dict[str, float]:
    """Identity of unseen people's photographs in scenes, and what the autoencoder leaves of it."""
    sampler, reader = Sampler(70_003), evaluation_reader()
    identity = sampler.people(n)
    scene = sampler.scenes(identity)
    scene.style = torch.zeros_like(scene.style)
    known = [faces[0].feature for faces in reader.read(portraits(identity[:, 0], 128))]
    pictures = world.draw(scene)
    with torch.no_grad():
        passed = pipe.vae.decode(pipe.vae.encode(pictures * 2 - 1).latents).sample / 2 + 0.5

    def likeness(images: list[Image.Image]) -> dict[str, float]:
        read = reader.read(images)
        cosines = [float(f[0].feature @ k) if f else 0.0 for f, k in zip(read, known, strict=True)]
        return {"identity": float(np.mean(cosines)), "one face": float(np.mean([len(f) == 1 for f in read]))}

    noise = (pictures - passed.clamp(0, 1)).square().mean()
    return {
        "renders": likeness(_images(pictures)),
        "through": likeness(_images(passed)),
        "psnr": float(-10 * noise.log10()),
    }


def _portrait_features(index: list[int]) -> Tensor:
    found = evaluation_reader().read(portraits(celebrity_identities()[index]))
    return torch.stack([faces[0].feature for faces in found])


def single(pipe, n: int) -> dict:
    """The model's own celebrities in the ten prompts of the evaluation, one seed each."""
    found = []
    for i in range(0, len(celebrities()), len(celebrities()) // n)[:n]:
        texts = [prompt.format(celebrities()[i]) for prompt in PROMPTS]
        images = generate(pipe, texts, seed=10 * i, batch_size=10)
        found.append(score(images, texts, _portrait_features([i]).expand(len(images), -1), MiniatureJudge()))
    stacked = Scores(*(np.stack([getattr(scores, key) for scores in found]) for key in vars(found[0])))
    by_prompt = {p: [round(float(v[:, j].mean()), 3) for v in vars(stacked).values()] for j, p in enumerate(PROMPTS)}
    return stacked.summary() | {"people": n, "identity, prompt, detection by prompt": by_prompt}


def pairs(pipe, n: int) -> dict:
    """Two celebrities in one picture: both faces found, and each nearer to the one whom the prompt puts there."""
    rng = np.random.default_rng(5)
    both, right, own, other = [], [], [], []
    places = list(PLACES.values())
    for j in range(n):
        a, b = rng.choice(len(celebrities()), 2, replace=False).tolist()
        names, known = [celebrities()[i] for i in (a, b)], _portrait_features([a, b])
        prompt = f"a photo of {names[0]} and {names[1]} {places[j % len(places)]}"
        for faces in evaluation_reader().read(generate(pipe, prompt, num_images_per_prompt=2, seed=1000 + j)):
            both.append(len(faces) == 2)
            if len(faces) == 2:
                left, second = sorted(faces, key=lambda face: face.box[0])
                cosine = torch.stack([left.feature, second.feature]) @ known.T
                right += [bool(cosine[0, 0] > cosine[0, 1]), bool(cosine[1, 1] > cosine[1, 0])]
                own.append(float(cosine.diagonal().mean()))
                other.append(float(cosine.flip(1).diagonal().mean()))
            else:
                right += [False, False]
    return {
        "both faces": float(np.mean(both)), "on the asked side": float(np.mean(right)), "n_images": len(both),
        "identity": float(np.mean(own or [0])), "of the other": float(np.mean(other or [0])),
    }  # fmt: skip


def speed(pipe) -> dict[str, float]:
    """Seconds for a picture at 20 steps, alone and in a batch of 8, and for loading the pipeline."""

    def seconds(work, times: int = 5) -> float:
        work()
        taken = []
        for _ in range(times):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
        return float(np.median(taken))

    prompt = PROMPTS[0].format(celebrities()[0])
    return {
        "one picture": seconds(lambda: generate(pipe, prompt, num_inference_steps=20)),
        "a picture of eight": seconds(
            lambda: generate(pipe, prompt, num_inference_steps=20, num_images_per_prompt=8, batch_size=8), 3
        )
        / 8,
        "loading": seconds(lambda: load_pipeline(DEFAULT_MODEL), 3),
        "threads": torch.get_num_threads(),
    }

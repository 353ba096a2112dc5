"""How far pictures of few sampler steps are from those of many, from the same noise, for each sampler.

    python benchmarks samplers --model miniature --names 20 --people 20

Any model: names of its basis are drawn, and, where it has an instant map and a judge of its own, new people of the
miniature's world. Writes lines of JSON and a plot to results/; run again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UniPCMultistepScheduler
from plots import save
from rbf_shapes import search
from record import kept, origin, short, weights_of
from torch import Tensor
from tqdm import tqdm
from worlds import DRAWN, TUNED

from celeb_basis import Identity, Model, Recipe
from celeb_basis.backend.pipeline import model_card
from celeb_basis.backend.rbf_solver import RBFSolverScheduler
from celeb_basis.backend.schedulers import get_scheduler
from celeb_basis.backend.text_encoders import placeholders
from celeb_basis.evaluation.judge import get_judge
from celeb_basis.evaluation.protocols import PROMPTS
from celeb_basis.evaluation.scores import identity_scores, interval, prompt_scores
from celeb_basis.faces.face import find_face
from celeb_basis.fit.loop import fit_steps

RESULTS = Path(__file__).parent / "results"
STEPS = (4, 5, 6, 8, 10, 14, 20)
REFERENCE = 200  # steps of UniPC
SEARCHED = 12  # pictures of other names, from other noise, on which shapes are searched
AT_ONCE = 24
NAME = "<annika>"
CONTENDERS = ("ddim", "dpm++2m", "unipc", "rbf, flat", "rbf, searched")


class Bench:
    """Pictures to draw: names and new people in the ten prompts, each from its own noise."""

    def __init__(self, model: str, names: int, people: int, guidance: float | None) -> None:
        self.model = Model.load(model, device="cpu" if not torch.cuda.is_available() else None)
        self.pipe = self.model.pipe
        self.pipe.unet.to(memory_format=torch.channels_last)
        self.own = self.pipe.scheduler
        self.guidance = guidance or model_card(self.pipe).guidance_scale or 7.5
        card = model_card(self.pipe)
        known = self.model.names
        self.names = known[:: max(1, len(known) // names)][:names]
        self.others = [name for name in known[1 :: max(2, len(known) // SEARCHED)] if name not in self.names][:SEARCHED]
        self.judge = get_judge(self.pipe, []) if card.judge else None
        self.people = [DRAWN.person(TUNED + i) for i in range(people if self.judge else 0)]
        self.texts = [PROMPTS[i % len(PROMPTS)].format(name) for i, name in enumerate(self.names)]
        self.texts += [PROMPTS[i % len(PROMPTS)].format(NAME) for i in range(len(self.people))]

    @cached_property
    def identities(self) -> list[Identity | None]:
        """Who NAME is in each picture: nobody where a celebrity is named, else a new person by the map alone."""
        fitted: list[Identity] = []
        if self.people:
            *_, last = fit_steps(
                self.pipe, self.model.basis, [person.faces for person in self.people],
                [NAME] * len(self.people), Recipe(max_train_steps=0), instant_map=self.model.instant_map,
            )  # fmt: skip
            fitted = last.identities
        return [None] * len(self.names) + fitted

    @cached_property
    def features(self) -> Tensor:
        """The judge's features of everybody, (pictures, d)."""
        assert self.judge is not None
        known = [find_face(self.judge.photograph(name), self.judge.reader).feature for name in self.names]
        return torch.stack([*known, *(person.feature for person in self.people)])

    @cached_property
    def embeds(self) -> tuple[Tensor, Tensor]:
        """The prompts' states, and those of the empty prompt, encoded once."""
        found = []
        for text, identity in zip(self.texts, self.identities, strict=True):
            with placeholders(self.pipe, {NAME: identity.vectors} if identity else {}), torch.no_grad():
                found.append(self.pipe.encode_prompt(text, self.pipe.device, 1, True)[:2])
        return torch.cat([p for p, _ in found]), torch.cat([n for _, n in found])

    def draw(self, scheduler: Any, steps: int, callback: Callable[..., Any] | None = None) -> Tensor:
        """Latents (pictures, c, h, w) of all pictures."""
        prompts, empty = self.embeds
        drawn = [
            self._draw(scheduler, steps, prompts[part], empty[part], [7000 + i for i in part], callback)
            for part in batched(range(len(self.texts)))
        ]
        return torch.cat(drawn)

    def _draw(
        self, scheduler: Any, steps: int, prompts: Tensor, empty: Tensor, seeds: Sequence[int], callback: Any
    ) -> Tensor:
        self.pipe.scheduler = scheduler
        latents: Tensor = self.pipe(
            prompt_embeds=prompts, negative_prompt_embeds=empty,
            guidance_scale=self.guidance, num_inference_steps=steps,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds], output_type="latent",
            callback_on_step_end=callback,
        ).images  # fmt: skip
        return latents

    @cached_property
    def shapes(self) -> dict[str, list[tuple[float, float]]]:
        """Shapes of RBF-Solver for every number of steps, from other names and other noise."""
        texts = [PROMPTS[i % len(PROMPTS)].format(name) for i, name in enumerate(self.others)]
        with torch.no_grad():
            prompts, empty = self.pipe.encode_prompt(texts, self.pipe.device, 1, True)[:2]

        def draw(scheduler: Any, steps: int, callback: Any = None) -> Tensor:
            return self._draw(scheduler, steps, prompts, empty, [8000 + i for i in range(len(texts))], callback)

        return search(draw, self.own.config, STEPS, REFERENCE)

    def scheduler(self, name: str) -> Any:
        """That of a contender."""
        self.pipe.scheduler = self.own
        if name.startswith("rbf"):
            shapes = self.shapes if name == "rbf, searched" else None
            return RBFSolverScheduler.from_config(self.own.config, shapes=shapes)
        return get_scheduler(self.pipe, name)

    def scores(self, latents: Tensor) -> dict[str, list[float]]:
        """Identity and prompt of each picture, where there is a judge."""
        if self.judge is None:
            return {}
        vae = self.pipe.vae
        with torch.no_grad():
            pixels = [vae.decode(part / vae.config.scaling_factor).sample for part in latents.split(AT_ONCE)]
        pictures = self.pipe.image_processor.postprocess(torch.cat(pixels))
        asked = [text.replace(NAME, "a person") for text in self.texts]
        faces = self.judge.reader.read(pictures)
        identity = [float(identity_scores([found], f)[0]) for found, f in zip(faces, self.features, strict=True)]
        return {"identity": identity, "prompt": prompt_scores(pictures, asked, self.judge).tolist()}


def batched(indices: range) -> Iterator[list[int]]:
    """AT_ONCE at a time."""
    for first in range(0, len(indices), AT_ONCE):
        yield list(indices[first : first + AT_ONCE])


def measure(bench: Bench, path: Path) -> list[dict[str, Any]]:
    """Draw what the file lacks, and return all its lines but the first."""
    header = {
        "model": bench.pipe.config["_name_or_path"], "guidance": bench.guidance, "reference": REFERENCE,
        "names": len(bench.names), "people": [p.number for p in bench.people], "steps": STEPS, "seeds": "7000 + i",
        "weights": weights_of(bench.pipe),
    }  # fmt: skip
    lines = kept(path, header, "sampler")
    found = lines[1:]
    with path.open("a") as file:

        def write(line: dict[str, Any]) -> None:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
            file.flush()

        if not lines:
            write(header | origin())
        done = {(line["sampler"], line.get("steps")) for line in found}
        left = [(name, steps) for name in CONTENDERS for steps in STEPS if (name, steps) not in done]
        if not left:
            return found
        reference = bench.draw(UniPCMultistepScheduler.from_config(bench.own.config), REFERENCE)
        if ("reference", REFERENCE) not in done:
            found.append({"sampler": "reference", "steps": REFERENCE} | rounded(bench.scores(reference)))
            write(found[-1])
        for name, steps in tqdm(left, desc="samplers", disable=None):
            scheduler = bench.scheduler(name)
            latents = bench.draw(scheduler, steps)
            rms = (latents - reference).square().flatten(1).mean(1).sqrt().tolist()
            line = {"sampler": name, "steps": steps} | rounded({"rms": rms, **bench.scores(latents)})
            if name == "rbf, searched":
                line["shapes"] = bench.shapes[str(steps)]
            found.append(line)
            write(line)
    return found


def rounded(values: dict[str, list[float]]) -> dict[str, list[float]]:
    """With four digits."""
    return {key: [short(value) for value in own] for key, own in values.items()}


def plot(found: Sequence[dict[str, Any]], path: Path, title: str) -> None:
    """Each figure against evaluations of the UNet, guidance counted."""
    from matplotlib import pyplot as plt

    kinds = [key for key in ("rms", "identity", "prompt") if key in found[-1]]
    labels = {"rms": "distance to the reference (RMS of latents)", "identity": "identity", "prompt": "prompt"}
    figure, axes = plt.subplots(1, len(kinds), figsize=(5 * len(kinds), 4), layout="constrained", squeeze=False)
    for kind, axis in zip(kinds, axes[0], strict=True):
        for name in CONTENDERS:
            lines = sorted((line for line in found if line["sampler"] == name), key=lambda line: line["steps"])
            values = [np.array(line[kind], float) for line in lines]
            at = [2 * line["steps"] for line in lines]
            axis.plot(at, [np.nanmean(v) for v in values], marker="o", markersize=4, label=name)
        if kind == "rms":
            axis.set_yscale("log")
        else:
            reference = next(line for line in found if line["sampler"] == "reference")
            axis.axhline(np.nanmean(np.array(reference[kind], float)), color="black", linestyle=":", label="reference")
        axis.set(xlabel="UNet evaluations (guidance counts two)", title=labels[kind])
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    save(figure, path, title)


def table(found: Sequence[dict[str, Any]]) -> str:
    """The means in Markdown; of the distance, with 95% intervals over pictures."""
    lines = ["| sampler | " + " | ".join(f"{steps}" for steps in STEPS) + " |", "|---" * (1 + len(STEPS)) + "|"]
    for kind in ("rms", "identity", "prompt"):
        for name in ("reference", *CONTENDERS):
            own = {
                line["steps"]: np.array(line[kind], float) for line in found if line["sampler"] == name and kind in line
            }
            if own:
                cells = [cell(own[s], kind) if s in own else "" for s in STEPS]
                if name == "reference":
                    cells = [cell(own[REFERENCE], kind), *cells[1:]]
                lines.append(f"| {kind}, {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(values: Any, kind: str) -> str:
    """0.123 (0.110-0.136)"""
    mean = np.nanmean(values)
    if kind != "rms":
        return f"{mean:.3f}"
    low, high = interval(values)
    return f"{mean:.3f} ({low:.3f}-{high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="miniature")
    parser.add_argument("--names", type=int, default=20)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--out", type=Path, default=RESULTS / "samplers.jsonl")
    args = parser.parse_args()
    bench = Bench(args.model, args.names, args.people, args.guidance)
    found = measure(bench, args.out)
    title = f"{args.model}: {len(bench.names)} names and {len(bench.people)} new people, guidance {bench.guidance:g}"
    plot(found, args.out.with_suffix(".png"), title)
    print(table(found))


if __name__ == "__main__":
    main()

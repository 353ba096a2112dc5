"""What setting up a model costs: names told from made-up ones and the instant map's identity, against UNet evaluations.

    python benchmarks setup --model miniature --every 3

Any model with a judge of its own world, whose basis lists the names it knows. Names that nobody has are planted among
them. Every contender draws its portraits once (kept in --work); its curve is what it would have had after fewer names.
Writes lines of JSON and a plot to results/; run again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plots import save
from record import kept, origin, short, weights_of
from tqdm import tqdm
from worlds import DRAWN, TUNED

from celeb_basis import CelebBasis, InstantMap, Model, Recipe
from celeb_basis.backend.pipeline import model_card
from celeb_basis.backend.text_encoders import nonsense_names, unusable_names
from celeb_basis.evaluation.judge import get_judge
from celeb_basis.evaluation.protocols import PROMPTS
from celeb_basis.evaluation.scores import interval, score
from celeb_basis.fit.loop import fit_steps
from celeb_basis.generate import generate
from celeb_basis.known_names import FAMOUS, Portraits, draw_portraits, find_known_names
from celeb_basis.model import MADE_UP_NAMES

RESULTS = Path(__file__).parent / "results"
NAME = "<annika>"
SHARES = (0.25, 0.5, 1.0)  # of the names, the famous ones first
PLANTED = 40  # names of rare tokens, and as many of ordinary words
WORDS = (
    "holding crown beach photo red shirt snow forest guitar studio wearing suit black smiling space desert hat yellow "
    "sketch picture city night balloon jacket sad left right person face blue"
).split()


@dataclass(frozen=True)
class Point:
    """What there is at one moment: faces, and the UNet evaluations that they took."""

    portraits: Portraits
    evaluations: int
    share: float


class Bench:
    """A model, its own names in their order, names planted among them, and new people."""

    def __init__(self, model: str, every: int, people: int) -> None:
        self.model = Model.load(model, device=None if torch.cuda.is_available() else "cpu")
        self.pipe = self.model.pipe
        self.pipe.unet.to(memory_format=torch.channels_last)
        known = self.model.names
        self.names = known[::every]
        # By the first planted names, the rule of the filter was chosen.
        made_up = nonsense_names(self.pipe, known, MADE_UP_NAMES + 2 * PLANTED)
        self.made_up, self.planted = made_up[:MADE_UP_NAMES], {"of rare tokens": made_up[MADE_UP_NAMES + PLANTED :]}
        self.planted["of ordinary words"] = self._of_words(known)
        mixed = [*self.names[FAMOUS:], *(name for own in self.planted.values() for name in own)]
        order = random.Random(0).sample(range(len(mixed)), len(mixed))
        # The names keep their order, the most famous first, as a list that people draw from; those that are planted
        # stand anywhere among the others.
        real = iter(self.names[FAMOUS:])
        others = len(self.names) - FAMOUS
        self.people_and_planted = [*self.names[:FAMOUS], *(next(real) if i < others else mixed[i] for i in order)]
        self.judge = get_judge(self.pipe, [])
        self.reader = self.model.face_reader
        self.people = [DRAWN.person(TUNED + i) for i in range(people)]
        self.features = torch.stack([person.feature for person in self.people])

    def _of_words(self, known: Sequence[str]) -> list[str]:
        """Pairs of ordinary words that the model can read, of which none is a name."""
        chance = random.Random(1)
        pairs = dict.fromkeys(" ".join(chance.sample(WORDS, 2)) for _ in range(4 * PLANTED))
        unusable = unusable_names(self.pipe, list(pairs))
        return [pair for pair in pairs if pair not in unusable and pair not in known][PLANTED : 2 * PLANTED]

    def old(self, kept: Path) -> Iterator[Point]:
        """Four pictures of every name with the model's own steps and guidance."""
        card = model_card(self.pipe)
        steps = card.num_inference_steps or 50
        everybody = [*self.made_up, *self.people_and_planted]
        faces = Portraits.load(kept) if kept.exists() else None
        drawing = draw_portraits(self.pipe, everybody, self.reader, num_images=4, batch_size=48, start=faces)
        for faces in drawing:
            faces.save(kept)
        assert faces is not None
        for share, names in self.first():
            part = faces.of(names)
            yield Point(part, int(part.num_images.sum()) * steps * (1 + ((card.guidance_scale or 7.5) > 1)), share)

    def new(self, kept: Path) -> Iterator[Point]:
        """A survey as `celeb-basis basis --filter` makes it."""
        for share, names in self.first():
            file = kept.with_suffix(f".{share}{kept.suffix}")
            if not file.exists():
                faces = Portraits.load(kept) if kept.exists() else None
                who = [name for name in names if name not in set(self.made_up)]
                finding = find_known_names(self.pipe, who, self.made_up, self.reader, batch_size=48, start=faces)
                for faces, _ in finding:
                    faces.save(kept)
                assert faces is not None
                faces.of(names).save(file)
            part = Portraits.load(file)
            steps, guidance, _ = json.loads(part.drawn)[-3:]
            calls = steps * (2 if guidance is None or guidance > 1 else 1)
            yield Point(part, int(part.num_images.sum()) * calls, share)

    def first(self) -> Iterator[tuple[float, list[str]]]:
        """The made-up names, and the first of the others."""
        for share in SHARES:
            yield share, [*self.made_up, *self.people_and_planted[: round(share * len(self.people_and_planted))]]

    def measure(self, point: Point) -> dict[str, Any]:
        """What the filter and the map are worth at this moment."""
        unknown = set(point.portraits.unknown(self.made_up))
        drawn = set(point.portraits.names)
        real = [name for name in self.names if name in drawn]
        found = {
            f"dropped {kind}": share_of(unknown, [n for n in names if n in drawn])
            for kind, names in self.planted.items()
        }
        basis = CelebBasis.from_pipeline(self.pipe, [name for name in self.names if name not in unknown])
        instant_map = point.portraits.instant_map(self.pipe, basis)
        return {
            "names": len(real), "pictures": int(point.portraits.num_images.sum()), "evaluations": point.evaluations,
            "kept": 1 - share_of(unknown, real), **found, "r2": instant_map.loo_r2,
            "identity": self.identity(basis, instant_map),
        }  # fmt: skip

    def identity(self, basis: CelebBasis, instant_map: InstantMap) -> list[float]:
        """Mean identity of each new person in five prompts, placed by the map alone."""
        *_, last = fit_steps(
            self.pipe, basis, [person.faces for person in self.people], [NAME] * len(self.people),
            Recipe(max_train_steps=0), instant_map=instant_map,
        )  # fmt: skip
        means = []
        for person, identity in zip(self.people, last.identities, strict=True):
            texts = [text.format(NAME) for text in PROMPTS[::2]]
            pictures = generate(self.pipe, texts, [identity], seed=10 * person.number, batch_size=len(texts))
            scores = score(pictures, texts, person.feature.expand(len(texts), -1), self.judge)
            means.append(float(scores.identity.mean()))
        return means


def share_of(some: set[str], names: Sequence[str]) -> float:
    """Which share of the names is among `some`."""
    return sum(name in some for name in names) / len(names) if names else float("nan")


def run(bench: Bench, contenders: Sequence[str], work: Path, path: Path) -> list[dict[str, Any]]:
    """Measure what the file lacks, and return its lines but the first."""
    header = {"model": bench.pipe.config["_name_or_path"], "names": len(bench.names), "made_up": len(bench.made_up),
              "people": [person.number for person in bench.people]}  # fmt: skip
    weights = weights_of(bench.pipe)
    header |= {"planted": {kind: len(names) for kind, names in bench.planted.items()}, "weights": weights}
    lines = kept(path, header, "contender")
    found = lines[1:]
    work /= weights  # no other model's portraits
    work.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:

        def write(line: dict[str, Any]) -> None:
            file.write(json.dumps({key: rounded(value) for key, value in line.items()}) + "\n")
            file.flush()

        if not lines:
            write(header | origin())
        done = {(line["contender"], line.get("share")) for line in found}
        card = model_card(bench.pipe)
        if ("shipped", None) not in done and card.instant_map:
            basis, instant_map = bench.model.basis, bench.model.instant_map
            assert instant_map is not None
            found.append(
                {"contender": "shipped", "r2": instant_map.loo_r2, "identity": bench.identity(basis, instant_map)}
            )
            write(found[-1])
        for contender in contenders:
            for point in tqdm(
                getattr(bench, contender)(work / f"{contender}.safetensors"), desc=contender, disable=None
            ):
                if (contender, point.share) not in done:
                    found.append({"contender": contender, "share": point.share, **bench.measure(point)})
                    write(found[-1])
    return found


def rounded(value: Any) -> Any:
    """Numbers with four digits."""
    return [short(each) for each in value] if isinstance(value, list) else short(value)


def plot(found: Sequence[dict[str, Any]], path: Path, title: str) -> None:
    """Identity of the map, its R2, and the filter's shares against evaluations."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 4), layout="constrained")
    for contender in ("old", "new"):
        lines = [line for line in found if line["contender"] == contender]
        if not lines:
            continue
        at = [line["evaluations"] for line in lines]
        values = np.array([line["identity"] for line in lines])
        bounds = np.array([interval(own) for own in values])
        axes[0].plot(at, values.mean(1), marker="o", label=contender)
        axes[0].fill_between(at, *bounds.T, alpha=0.2)
        axes[1].plot(at, [line["r2"] for line in lines], marker="o", label=contender)
        for key, style in (("kept", "-"), ("dropped of rare tokens", "--"), ("dropped of ordinary words", ":")):
            axes[2].plot(at, [line[key] for line in lines], style, marker="o", label=f"{contender}: {key}")
    for line in found:
        if line["contender"] == "shipped":
            axes[0].axhline(np.mean(line["identity"]), color="black", linestyle=":", label="the map that ships")
            axes[1].axhline(line["r2"], color="black", linestyle=":")
    for axis, text in zip(axes, ("identity of new people, by the map alone", "R2 of the map", "names"), strict=True):
        axis.set(xscale="log", xlabel="UNet evaluations", title=text)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    save(figure, path, title)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="miniature")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take each N-th name of the basis")
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--contenders", nargs="+", choices=("new", "old"), default=["new", "old"])
    parser.add_argument("--work", type=Path, default=Path("runs/setup"), help="where portraits are kept")
    parser.add_argument("--out", type=Path, default=RESULTS / "setup.jsonl")
    args = parser.parse_args()
    bench = Bench(args.model, args.every, args.people)
    found = run(bench, args.contenders, args.work, args.out)
    title = f"{args.model}: {len(bench.names)} names, {2 * PLANTED} planted, {len(bench.people)} new people"
    plot(found, args.out.with_suffix(".png"), title)
    for line in found:
        values = {key: rounded(float(np.mean(value))) for key, value in line.items() if key != "contender"}
        print(line["contender"], values)


if __name__ == "__main__":
    main()

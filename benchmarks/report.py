"""Tables and plots of a comparison: intervals by person, paired differences, cost, and one sheet of pictures.

    python benchmarks/report.py benchmarks/results/comparison

Writes comparison.md and three pictures beside the folder.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from compare import OUT, SHOWN
from contenders import CONTENDERS, PAIRS, Celebrities
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import bootstrap
from torch import Tensor
from work import ALONE, PAIRED, PROMPTS, celebrity, counterpart

from celeb_basis import find_face, miniature
from celeb_basis.files import write_atomically
from celeb_basis.measuring.evaluate import interval
from celeb_basis.miniature.readers import evaluation_reader

matplotlib.use("Agg")
from matplotlib import pyplot as plt

OURS, INSTANT = "Celeb Basis, refined", "Celeb Basis, instant"
SHEET = (0, 3, 5, 7, 9, 12, 15)  # of the prompts of one person
SHEET_PAIRED = (0, 2)
PAIR = ("two new people",)
Value = Callable[[dict[str, Any]], float | None]


@dataclass(frozen=True, eq=False)
class Result:
    """One contender's files: rows of pictures by person and by pair, and the courses of its fit."""

    people: dict[str, list[dict[str, Any]]]
    pairs: dict[str, list[dict[str, Any]]]
    courses: list[dict[str, Any]]
    folder: Path

    def by_person(self, value: Value, kinds: tuple[str, ...] = tuple(PROMPTS)[:3]) -> dict[str, float]:
        """The mean of a value over each person's, or each pair's, pictures of some kinds of prompts."""
        units = self.people | self.pairs
        found = {who: [value(row) for row in rows if row["kind"] in kinds] for who, rows in units.items()}
        kept = {who: [v for v in values if v is not None] for who, values in found.items()}
        return {who: float(np.mean(values)) for who, values in kept.items() if values}

    def harmonic(self) -> dict[str, float]:
        """Of each person's mean identity, no less than 0, and mean prompt fidelity."""
        identity, prompt = self.by_person(_identity), self.by_person(_prompt)
        return {who: 2 * max(i, 0.0) * prompt[who] / (max(i, 0.0) + prompt[who] + 1e-9) for who, i in identity.items()}


def _identity(row: dict[str, Any]) -> float:
    return row["identity"]


def _prompt(row: dict[str, Any]) -> float:
    return float(np.mean(list(row["asked"].values())))


MEASURES: dict[str, Callable[[Result], dict[str, float]]] = {
    "identity": lambda of: of.by_person(_identity),
    "rank-1": lambda of: of.by_person(lambda row: row["rank1"]),
    "faces found": lambda of: of.by_person(lambda row: row["found"]),
    "prompt": lambda of: of.by_person(_prompt),
    "harmonic mean": lambda of: of.harmonic(),
}


def load(folder: Path) -> tuple[dict[str, Result], str]:
    """The results by contender, and the commits that they come from; SystemExit if they do not belong together."""
    results, same, commits = {}, set(), set()
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*/*.json")):
        record = json.loads(path.read_text())
        same.add(tuple(record[key] for key in ("seeds", "prompts", "weights", "first")))
        commits.add(record["commit"])
        files.setdefault(record["name"], {"folder": path.parent})[path.stem] = record
    if len(same) > 1:
        raise SystemExit(f"{folder} holds results of different people, prompts or weights: run them again")
    for name, found in ((name, files[name]) for name in CONTENDERS | PAIRS if name in files):
        place = found.pop("folder")
        if len({json.dumps(record["settings"]) for record in found.values()}) > 1:
            raise SystemExit(f"{place} holds results of different settings: run them again")
        results[name] = Result(
            people={who: r["rows"] for who, r in found.items() if who.isdigit()},
            pairs={who: r["rows"] for who, r in found.items() if "+" in who},
            courses=[r for who, r in found.items() if who.startswith("course")],
            folder=place,
        )
    return results, ", ".join(sorted(commits))


def cell(values: dict[str, float]) -> str:
    """Mean and 95% interval over people."""
    if not values:
        return ""
    array = np.array(list(values.values()))
    low, high = interval(array)
    return f"{array.mean():.3f} ({low:.3f} to {high:.3f})"


def less(mine: dict[str, float], theirs: dict[str, float]) -> dict[str, float]:
    """Paired differences over the people whom both have."""
    return {who: mine[who] - theirs[who] for who in mine if who in theirs}


def table(head: str, rows: list[list[str]]) -> str:
    lines = [f"| {head} |", "|" + "---|" * (head.count("|") + 1)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def quality(results: dict[str, Result]) -> str:
    rows = []
    for name, r in ((name, r) for name, r in results.items() if r.people):
        rows.append([name, str(len(r.people)), *(cell(measure(r)) for measure in MEASURES.values())])
    return table(" | ".join(["| people", *MEASURES]), rows)


@cache
def photograph(number: int, famous: bool) -> Tensor:
    """The evaluation's feature of a new person, or of the celebrity with this number in the comparison."""
    photo = celebrity(counterpart(number)) if famous else miniature.person(number)
    return find_face(photo, evaluation_reader()).feature


def pairs(results: dict[str, Result]) -> str:
    rows = []
    for name, r in results.items():
        if r.pairs:
            seen = ("found", "apart", "sides", "bleeding")
            cells = [r.by_person(lambda row, key=key: row[key], PAIR) for key in seen]
            famous = isinstance((CONTENDERS | PAIRS)[name], Celebrities)
            alike = {pair: float(torch.dot(*(photograph(int(i), famous) for i in pair.split("+")))) for pair in r.pairs}
            cells += [less(cells[-1], alike), r.by_person(_identity, PAIR), r.by_person(_prompt, PAIR)]
            rows.append([name, str(len(r.pairs)), *map(cell, cells)])
    head = "two new people | pairs | both faces found | each more like their own | and on the asked side | cosine "
    return table(head + "with the other | less that of their photographs | identity on the asked side | prompt", rows)


def differences(results: dict[str, Result]) -> str:
    """What ours has more than each of the others, person by person."""
    ours, rows = results[OURS], []
    for name, r in results.items():
        if name != OURS:
            measures: list[Callable[[Result], dict[str, float]]] = [
                lambda of: of.by_person(_identity),
                lambda of: of.by_person(_prompt),
                lambda of: of.harmonic(),
                lambda of: of.by_person(_identity, PAIR),
                lambda of: of.by_person(lambda row: row["sides"], PAIR),
            ]
            rows.append([name, *(cell(less(measure(ours), measure(r))) for measure in measures)])
    head = f"{OURS}, less | identity | prompt | harmonic mean | two new people: identity | both on their sides"
    return table(head, rows)


def shares(results: dict[str, Result]) -> str:
    """How much of one contender's figures another reaches: ratios of means over the numbers that both have."""
    rows = []
    for mine, theirs in ((OURS, "celebrities"), (INSTANT, "celebrities"), (INSTANT, OURS)):
        if mine in results and theirs in results:
            each = [(measure(results[mine]), measure(results[theirs])) for measure in MEASURES.values()]
            rows.append([f"{mine} / {theirs}", *(ratio(*two) for two in each)])
    return table(" | ".join(["", *MEASURES]), rows)


def ratio(mine: dict[str, float], theirs: dict[str, float]) -> str:
    both = [np.array([of[who] for who in mine if who in theirs]) for of in (mine, theirs)]

    def statistic(mine: NDArray[np.float64], theirs: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return mine.mean(axis) / theirs.mean(axis)

    found = bootstrap(both, statistic, n_resamples=2000, paired=True, method="percentile", rng=0).confidence_interval
    return f"{statistic(*both, axis=0):.3f} ({found.low:.3f} to {found.high:.3f})"


def details(results: dict[str, Result]) -> str:
    """Identity and prompt by kind of prompt, and what is obeyed by what is asked for."""
    kinds = tuple(PROMPTS)[:3]
    first = [
        [name, *(cell(r.by_person(value, (kind,))) for value in (_identity, _prompt) for kind in kinds)]
        for name, r in results.items()
        if r.people
    ]
    attributes = sorted(
        {key for r in results.values() for rows in r.people.values() for w in rows for key in w["asked"]}
    )
    second = [
        [name, *(cell(r.by_person(lambda row, key=key: row["asked"].get(key))) for key in attributes)]
        for name, r in results.items()
        if r.people
    ]
    head = " | ".join(["", *(f"{value}, {kind}" for value in ("identity", "prompt") for kind in kinds)])
    return table(head, first) + "\n\n" + table(" | ".join(["prompt", *attributes]), second)


def course(result: Result) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Steps, seconds and identity of a fit, means over the people whose fit was followed."""
    points = [course["points"] for course in result.courses]
    identity = [[np.mean([row["identity"] for row in p["rows"]]) for p in of_one] for of_one in points]
    seconds = [[p["seconds"] for p in of_one] for of_one in points]
    return np.array([p["step"] for p in points[0]]), np.mean(seconds, axis=0), np.mean(identity, axis=0)


def cost(results: dict[str, Result]) -> str:
    rows = []
    for name, r in results.items():
        if r.courses:
            steps, seconds, identity = course(r)
            c, peak = r.courses[0], np.mean([c["peak_gb"] for c in r.courses]) * 1000
            last = list(steps).index(c["settings"].get("steps", 0))
            # Between two points the likeness is taken to rise evenly.
            first = int(np.argmax(identity >= 0.95 * identity[last]))
            around = slice(max(first - 1, 0), first + 1)
            early = np.interp(0.95 * identity[last], identity[around], seconds[around])
            rows.append([
                name, str(len(r.courses)), f"{c['parameters']:,}", f"{c['bytes']:,}", str(steps[last]),
                f"{seconds[last]:.2f}", f"{early:.2f}", f"{identity[last]:.3f}", f"{peak:.0f}",
                f"{c['device']}, threads: {c['threads']}",
            ])  # fmt: skip
    head = "a fit, one person alone | people | parameters learnt | bytes on disk | steps | seconds | seconds to 95% of "
    return table(head + "the identity that it ends with | that identity | peak memory, MB | on", rows)


def _bar(values: dict[str, float]) -> tuple[float, NDArray[np.float64]]:
    array = np.array(list(values.values()))
    low, high = interval(array)
    return array.mean(), np.array([[array.mean() - low], [high - array.mean()]]).clip(0)


def _style(name: str) -> dict[str, Any]:
    i = list(CONTENDERS | PAIRS).index(name)
    return {"color": plt.get_cmap("tab20")(i), "marker": "os^vD<>PX*hp"[i % 12], "label": name}


def scatter(results: dict[str, Result], path: Path, caption: str) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(13, 6), layout="constrained")
    panels = {"one new person": tuple(PROMPTS)[:3], "two new people": PAIR}
    for axis, (title, kinds) in zip(axes, panels.items(), strict=True):
        for name, r in results.items():
            if prompt := r.by_person(_prompt, kinds):
                (x, across), (y, up) = _bar(prompt), _bar(r.by_person(_identity, kinds))
                axis.errorbar(x, y, xerr=across, yerr=up, linestyle="", markersize=8, capsize=2, **_style(name))
        axis.set(
            title=title, xlabel="prompt: share of what is asked for", ylabel="identity: cosine with the photograph"
        )
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=8)
    figure.suptitle(f"95% intervals over people; {caption}", fontsize=9)
    save(figure, path)


def courses(results: dict[str, Result], path: Path, caption: str) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(13, 6), layout="constrained", sharey=True)
    for name, r in results.items():
        if r.courses:
            steps, seconds, identity = course(r)
            axes[0].plot(steps, identity, **_style(name))
            axes[1].plot(seconds, identity, **_style(name))
    axes[0].set_xscale("symlog", linthresh=10)
    axes[1].set_xscale("symlog", linthresh=1)
    axes[0].set(xlabel="steps", ylabel="identity: cosine with the photograph")
    axes[1].set(xlabel="seconds, one person alone")
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=8)
    people = sorted({len(r.courses) for r in results.values() if r.courses})
    counts = " or ".join(map(str, people))
    figure.suptitle(f"means of {counts} people, one picture of each scene; {caption}", fontsize=9)
    save(figure, path)


def sheet(results: dict[str, Result], path: Path, caption: str) -> None:
    """Contenders as columns, the same prompts from the same noise as rows, the photograph in front."""
    shown = [who for who in sorted(results[OURS].people)[:SHOWN]]
    jobs = [(who, ALONE[i][1], i) for who in shown for i in SHEET]
    jobs += [("+".join(shown), PAIRED[i][1], i) for i in SHEET_PAIRED] if len(shown) == 2 else []
    names = [name for name in results if name in CONTENDERS and name != "celebrities"]
    size = (len(jobs), len(names) + 1)
    figure, axes = plt.subplots(*size, figsize=(1.25 * size[1], 1.35 * size[0]), layout="constrained", squeeze=False)
    for (who, prompt, i), row in zip(jobs, axes, strict=True):
        photos = [np.asarray(miniature.person(int(number), 64)) for number in who.split("+")]
        row[0].imshow(np.concatenate(photos, axis=1))
        row[0].set_ylabel(
            "\n".join(wrapped(prompt.format("A", "B" if "+" in who else "a celebrity"))),
            fontsize=6,
            rotation=0,
            ha="right",
            va="center",
        )
        for axis, name in zip(row[1:], names, strict=True):
            strip = results[name].folder / f"{who}.png"
            if strip.exists():
                with Image.open(strip) as pictures:
                    side = pictures.height
                    axis.imshow(np.asarray(pictures.crop((i * side, 0, (i + 1) * side, side))))
    for axis, name in zip(axes[0], ["photograph", *names], strict=True):
        axis.set_title("\n".join(name.split(", ")), fontsize=7)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    figure.suptitle(f"the same noise in every row; {caption}", fontsize=8)
    save(figure, path)


def wrapped(text: str, width: int = 24) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f"{word} "
    return lines


def save(figure: Any, path: Path) -> None:
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=OUT)
    folder = parser.parse_args().folder
    results, commits = load(folder)
    if OURS not in results:
        raise SystemExit(f"{folder} holds nothing of {OURS}: run compare.py first")
    caption = f"commit {commits}"
    parts = [part(results) for part in (quality, shares, pairs, differences, details, cost)]
    text = "\n\n".join([*parts, f"95% bootstrap intervals over people; {caption}."])
    with write_atomically(folder.with_suffix(".md")) as temporary:
        temporary.write_text(text + "\n")
    for draw in (scatter, courses, sheet) if any(r.courses for r in results.values()) else (scatter, sheet):
        draw(results, folder.with_name(f"{folder.name}-{draw.__name__}.png"), textwrap.fill(caption, 120))
    print(text)


if __name__ == "__main__":
    main()

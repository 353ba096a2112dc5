"""The comparison's tables in markdown: means with 95% bootstrap intervals over people, paired differences, cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from contenders import CONTENDERS, REGIONS
from numpy.typing import NDArray
from record import Result, Row, file_name, read
from scipy.stats import bootstrap
from work import PROMPTS

from celeb_basis.evaluation.evaluate import interval

MEAN = "mean person"
OURS, INSTANT, FACE_LOSS = "Celeb Basis, refined", "Celeb Basis, instant", "Celeb Basis, face loss"
ALONE, PAIR, THREE = tuple(PROMPTS)[:3], tuple(PROMPTS)[3:4], tuple(PROMPTS)[4:]  # kinds by number of new people
README = (
    "celebrities",
    INSTANT,
    OURS,
    "the paper's recipe",
    "Textual Inversion",
    "StableIdentity",
    "DreamBooth-LoRA",
    "Custom Diffusion",
)

Value = Callable[[Row], float | None]
Values = dict[str, float]  # of each person, pair or three


def load(folder: Path) -> dict[str, Result]:
    """The results by contender; SystemExit if they do not belong together."""
    paths = {name: folder / file_name(name) for name in CONTENDERS | REGIONS}
    results = {name: read(path) for name, path in paths.items() if path.exists()}
    if OURS not in results:
        raise SystemExit(f"{folder} holds nothing of {OURS}: run `python benchmarks compare` first")
    same = [{key: r.header[key] for key in ("seeds", "first", "weights", "prompts")} for r in results.values()]
    if any(each != same[0] for each in same):
        raise SystemExit(f"{folder} holds results of different people, prompts or weights: run them again")
    return results


def by_person(result: Result, value: Value, kinds: tuple[str, ...] = ALONE) -> Values:
    """The mean of a value over each person's, pair's or three's pictures of some kinds of prompts."""
    found = {who: [value(row) for row in rows if row["kind"] in kinds] for who, rows in result.units.items()}
    kept = {who: [v for v in values if v is not None] for who, values in found.items()}
    return {who: float(np.mean(values)) for who, values in kept.items() if values}


def identity(row: Row) -> float:
    """How much the new people in a picture look like themselves."""
    return row["identity"]


def in_scenes(result: Result) -> Values:
    """Identity in photos of scenes, where most faces can be read."""
    return by_person(result, identity, ALONE[1:2])


def prompt(row: Row) -> float:
    """The share of what was asked for that a picture shows."""
    return float(np.mean(list(row["asked"].values())))


def harmonic(result: Result) -> Values:
    """Of each person's mean identity, no less than 0, and mean prompt fidelity."""
    obeyed = by_person(result, prompt)
    return {
        who: 2 * max(i, 0.0) * obeyed[who] / (max(i, 0.0) + obeyed[who] + 1e-9)
        for who, i in by_person(result, identity).items()
    }


MEASURES: dict[str, Callable[[Result], Values]] = {
    "identity": lambda of: by_person(of, identity),
    "rank-1": lambda of: by_person(of, lambda row: row["rank1"]),
    "faces found": lambda of: by_person(of, lambda row: row["found"]),
    "prompt": lambda of: by_person(of, prompt),
    "harmonic mean": harmonic,
}


def cell(values: Values) -> str:
    """Mean and 95% interval over people."""
    if not values:
        return ""
    array = np.array(list(values.values()))
    low, high = interval(array)
    return f"{array.mean():.3f} ({low:.3f} to {high:.3f})"


def less(mine: Values, theirs: Values) -> Values:
    """Paired differences over the people whom both have."""
    return {who: mine[who] - theirs[who] for who in mine if who in theirs}


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in markdown."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def alone(results: Mapping[str, Result]) -> str:
    """Pictures of one new person."""
    rows = [
        [name, str(len(r.people)), *(cell(measure(r)) for measure in MEASURES.values())]
        for name, r in results.items()
        if r.people
    ]
    return table(["one new person", "people", *MEASURES], rows)


def shares(results: Mapping[str, Result]) -> str:
    """How much of one contender's figures another reaches: ratios of means over the numbers that both have.

    Two faces of any people are a little alike, so identity in scenes is also counted from the mean person's on.
    """
    measures = dict(MEASURES)
    if MEAN in results:
        nobody = in_scenes(results[MEAN])
        measures["identity in scenes above the mean person's"] = lambda of: less(in_scenes(of), nobody)
    rows = []
    for mine, theirs in ((FACE_LOSS, "celebrities"), (OURS, "celebrities"), (INSTANT, "celebrities"), (INSTANT, OURS)):
        if mine in results and theirs in results:
            each = [(measure(results[mine]), measure(results[theirs])) for measure in measures.values()]
            rows.append([f"{mine} / {theirs}", *(ratio(*two) for two in each)])
    return table(["one new person", *measures], rows)


def ratio(mine: Values, theirs: Values) -> str:
    """Ratio of two means and its 95% interval, people drawn together."""
    both = [np.array([of[who] for who in mine if who in theirs]) for of in (mine, theirs)]

    def statistic(mine: NDArray[np.float64], theirs: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return mine.mean(axis) / theirs.mean(axis)

    found = bootstrap(both, statistic, n_resamples=2000, paired=True, method="percentile", rng=0).confidence_interval
    return f"{statistic(*both, axis=0):.3f} ({found.low:.3f} to {found.high:.3f})"


def mixed(row: Row) -> float | None:
    """How much more like the others a face is than their photographs are alike."""
    return None if row["bleeding"] is None else row["bleeding"] - row["photographs"]


def pairs(results: Mapping[str, Result]) -> str:
    """Pictures of two new people."""
    return together(results, "two new people", "pairs", PAIR)


def threes(results: Mapping[str, Result]) -> str:
    """Pictures of three new people."""
    return together(results, "three new people", "threes", THREE)


def together(results: Mapping[str, Result], title: str, units: str, kinds: tuple[str, ...]) -> str:
    """Pictures of several new people."""
    rows = []
    for name, r in results.items():
        if drawn := getattr(r, units):
            keys = ("found", "apart", "sides", "bleeding")
            cells = [by_person(r, lambda row, key=key: row[key], kinds) for key in keys]
            cells += [by_person(r, value, kinds) for value in (mixed, identity, prompt)]
            rows.append([name, str(len(drawn)), *map(cell, cells)])
    head = [title, units, "all faces found", "each most like their own", "and in the asked place"]
    head += ["cosine with the others", "less that of their photographs", "identity in the asked place", "prompt"]
    return table(head, rows)


def differences(results: Mapping[str, Result]) -> str:
    """Ours minus each of the others, person by person."""
    measures: dict[str, Callable[[Result], Values]] = {
        "identity": MEASURES["identity"],
        "prompt": MEASURES["prompt"],
        "harmonic mean": harmonic,
        "two new people: identity": lambda of: by_person(of, identity, PAIR),
        "both on their sides": lambda of: by_person(of, lambda row: row["sides"], PAIR),
    }
    ours = results[OURS]
    rows = [
        [name, *(cell(less(measure(ours), measure(r))) for measure in measures.values())]
        for name, r in results.items()
        if name != OURS
    ]
    return table([f"{OURS}, less", *measures], rows)


def kinds(results: Mapping[str, Result]) -> str:
    """Identity and prompt by kind of prompt."""
    values = {"identity": identity, "prompt": prompt}
    rows = [
        [name, *(cell(by_person(r, value, (kind,))) for value in values.values() for kind in ALONE)]
        for name, r in results.items()
        if r.people
    ]
    return table(["one new person", *(f"{value}, {kind}" for value in values for kind in ALONE)], rows)


def attributes(results: Mapping[str, Result]) -> str:
    """Prompt fidelity by what is asked for."""
    asked = {key for r in results.values() for rows in r.people.values() for row in rows for key in row["asked"]}
    rows = [
        [name, *(cell(by_person(r, lambda row, key=key: row["asked"].get(key))) for key in sorted(asked))]
        for name, r in results.items()
        if r.people
    ]
    return table(["prompt", *sorted(asked)], rows)


def course(result: Result) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Steps, seconds and identity of a fit, means over the people whose fit was followed."""
    points = np.array([of_one["points"] for of_one in result.courses.values()])
    seconds, likeness = points[..., 1].mean(0), points[..., 2].mean(0)
    return points[0, :, 0].astype(int), seconds, likeness


def cost(results: Mapping[str, Result]) -> str:
    """Parameters, bytes, seconds and memory of a fit of one person alone."""
    rows = []
    for name, r in results.items():
        if r.courses:
            steps, seconds, likeness = course(r)
            first = next(iter(r.courses.values()))
            peak = np.mean([of_one["peak_gb"] for of_one in r.courses.values()]) * 1000
            last = list(steps).index(r.header["settings"].get("steps", 0))
            # Between two points identity is taken to rise evenly.
            enough = int(np.argmax(likeness >= 0.95 * likeness[last]))
            around = slice(max(enough - 1, 0), enough + 1)
            early = np.interp(0.95 * likeness[last], likeness[around], seconds[around])
            rows.append(
                [
                    name,
                    str(len(r.courses)),
                    f"{first['parameters']:,}",
                    f"{first['bytes']:,}",
                    str(steps[last]),
                    f"{seconds[last]:.2f}",
                    f"{early:.2f}",
                    f"{likeness[last]:.3f}",
                    f"{peak:.0f}",
                    f"{first['device']}, threads: {first['threads']}",
                ]
            )
    head = ["a fit, one person alone", "people", "parameters learnt", "bytes on disk", "steps", "seconds"]
    head += ["seconds to 95% of the identity that it ends with", "that identity", "peak memory, MB", "on"]
    return table(head, rows)


def readme(results: Mapping[str, Result]) -> str:
    """The small table: means only."""
    rows = []
    for name in README:
        if name in results and results[name].people:
            means = [
                np.mean(list(MEASURES[key](results[name]).values())) for key in ("identity", "faces found", "prompt")
            ]
            settings = results[name].header["settings"]
            seen = f"{settings['steps'] * settings['batch']:,}" if settings.get("steps") else "–"
            rows.append([name, *(f"{mean:.3f}" for mean in means), seen])
    return table(["one new person", "identity", "faces found", "prompt", "pictures seen in a fit"], rows)


TABLES: dict[str, Callable[[Mapping[str, Result]], str]] = {
    "alone": alone,
    "shares": shares,
    "differences": differences,
    "pairs": pairs,
    "threes": threes,
    "kinds": kinds,
    "attributes": attributes,
    "cost": cost,
    "readme": readme,
}


def made(results: Mapping[str, Result]) -> dict[str, str]:
    """Every table by its name."""
    return {name: make(results) for name, make in TABLES.items()}

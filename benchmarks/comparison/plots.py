"""The comparison's two plots, and how pictures are saved."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from contenders import CONTENDERS, REGIONS
from numpy.typing import NDArray
from PIL import Image
from record import Result
from tables import ALONE, PAIR, Values, by_person, course, identity, prompt

from celeb_basis.evaluation.evaluate import interval
from celeb_basis.io import write_atomically

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def scatter(results: Mapping[str, Result], path: Path) -> None:
    """Identity against prompt fidelity."""
    figure, axes = plt.subplots(1, 2, figsize=(13, 6), layout="constrained")
    for axis, (title, kinds) in zip(axes, {"one new person": ALONE, "two new people": PAIR}.items(), strict=True):
        for name, r in results.items():
            if obeyed := by_person(r, prompt, kinds):
                (x, across), (y, up) = _bar(obeyed), _bar(by_person(r, identity, kinds))
                axis.errorbar(x, y, xerr=across, yerr=up, linestyle="", markersize=8, capsize=2, **_style(name))
        axis.set(title=title, xlabel="prompt: share of what is asked for")
        axis.set(ylabel="identity: cosine with the photograph")
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=8)
    save(figure, path, f"95% intervals over people; {until(results)}")


def courses(results: Mapping[str, Result], path: Path) -> None:
    """Identity against steps and against seconds."""
    figure, axes = plt.subplots(1, 2, figsize=(13, 6), layout="constrained", sharey=True)
    followed = {name: r for name, r in results.items() if r.courses}
    for name, r in followed.items():
        steps, seconds, likeness = course(r)
        axes[0].plot(steps, likeness, **_style(name))
        axes[1].plot(seconds, likeness, **_style(name))
    axes[0].set_xscale("symlog", linthresh=10)
    axes[1].set_xscale("symlog", linthresh=1)
    axes[0].set(xlabel="steps", ylabel="identity: cosine with the photograph")
    axes[1].set(xlabel="seconds, one person alone")
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=8)
    people = " or ".join(map(str, sorted({len(r.courses) for r in followed.values()})))
    save(figure, path, f"means of {people} people, one picture of each scene; {until(results)}")


def until(results: Mapping[str, Result]) -> str:
    """When the last of the results was measured."""
    return f"measured until {max(date for r in results.values() for date in r.dates)}"


def save(figure: Any, path: Path, caption: str) -> None:
    """Save a figure under its caption, in 256 colours."""
    figure.suptitle(textwrap.fill(caption, 100), fontsize=8)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=130)
    plt.close(figure)
    with Image.open(drawn) as picture, write_atomically(path) as temporary:
        few_colours(picture).save(temporary, optimize=True)


def few_colours(picture: Image.Image) -> Image.Image:
    """A picture in 256 colours, dithered: a quarter of the bytes."""
    full = picture.convert("RGB")
    return full.quantize(palette=full.quantize(256, Image.Quantize.MAXCOVERAGE), dither=Image.Dither.FLOYDSTEINBERG)


def wrapped(text: str, width: int = 24) -> str:
    """A text in lines that fit beside or above a picture."""
    return "\n".join(textwrap.wrap(text, width))


def _bar(values: Values) -> tuple[float, NDArray[np.float64]]:
    array = np.array(list(values.values()))
    low, high = interval(array)
    return array.mean(), np.array([[array.mean() - low], [high - array.mean()]]).clip(0)


def _style(name: str) -> dict[str, Any]:
    i = list(CONTENDERS | REGIONS).index(name)
    return {"color": plt.get_cmap("tab20")(i), "marker": "os^vD<>PX*hp"[i % 12], "label": name}

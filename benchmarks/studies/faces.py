"""How well the readers of photographs do, on photographs at hand: by size, turn, exposure and blur, and between people.

    python benchmarks faces [FOLDER ...]    folders of photos, as for `celeb-basis evaluate --reader-check`

Writes results/faces.md. Without a folder it looks at the two photographs that packages bring, and at tests/photos.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import skimage.data
from PIL import Image, ImageFilter

from celeb_basis.evaluation.face_verification import equal_error_rate, people_in
from celeb_basis.faces.detect import Detector
from celeb_basis.faces.photo import GREY, open_photo
from celeb_basis.faces.recognise import RECOGNISERS

HERE = Path(__file__).parent
PHOTOS = HERE.parents[1] / "tests" / "photos"
READERS = ("sface-int8", "dlib")
Change = Callable[[Image.Image, float], Image.Image]  # a photograph and the height of the face in it


def photographs(folders: Sequence[Path]) -> list[tuple[str, Image.Image]]:
    """Everybody's photographs with their names."""
    hopper = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    found = [("astronaut", Image.fromarray(skimage.data.astronaut())), ("hopper", open_photo(hopper))]
    for folder in folders:
        found += [(name, open_photo(path)) for name, paths in people_in(folder).items() for path in paths]
    return found


def turned(degrees: float) -> Change:
    return lambda photo, _: photo.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=GREY)


def sized(pixels: int) -> Change:
    def change(photo: Image.Image, height: float) -> Image.Image:
        scale = pixels / height
        small = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.LANCZOS)
        wall = Image.new("RGB", (1280, 960), (110, 120, 100))
        wall.paste(small, (300, 200))
        return wall

    return change


def exposed(gain: float) -> Change:
    return lambda photo, _: Image.fromarray((np.asarray(photo, dtype=float) * gain).clip(0, 255).astype(np.uint8))


def blurred(share: float) -> Change:
    return lambda photo, height: photo.filter(ImageFilter.GaussianBlur(float(share * height)))


def mirrored(photo: Image.Image, _: float) -> Image.Image:
    return photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


CHANGES: dict[str, Change] = {
    "mirrored": mirrored,
    **{f"turned by {d} degrees": turned(d) for d in (15, 25, 35, 45, 90, 180)},
    **{f"face {n} pixels tall, in 1280 x 960": sized(n) for n in (100, 60, 40, 32, 24, 20, 16)},
    **{f"brightness x {g:g}": exposed(g) for g in (0.08, 0.3, 1.5, 2, 3)},
    **{f"blur of {100 * s:g}% of the face": blurred(s) for s in (0.01, 0.02, 0.03)},
}


class Eyes:
    """One detector for several recognisers: features (d,) of the largest face of a photograph, for each."""

    def __init__(self) -> None:
        self.detector = Detector()
        self.names = [RECOGNISERS[name].name for name in READERS]
        self._describe = [RECOGNISERS[name].load(RECOGNISERS[name].file.fetch()) for name in READERS]

    def look(self, photo: Image.Image) -> tuple[float, list[np.ndarray]] | None:
        """The face's height in pixels and its features, or None where nobody is found."""
        found = self.detector.find(photo)
        if not found:
            return None
        features = [describe(photo, found[0].landmarks).ravel() for describe in self._describe]
        return float(found[0].box[3] - found[0].box[1]), [each / np.linalg.norm(each) for each in features]


def by_change(photos: Sequence[tuple[str, Image.Image]], eyes: Eyes) -> list[str]:
    """A row for each change: how many are found, and how alike each reader finds them to the photograph unchanged."""
    as_is = [eyes.look(photo) for _, photo in photos]
    rows = [
        f"| photograph | found | {' | '.join(f'{name}: median cosine (least)' for name in eyes.names)} |",
        "|---|---|" + "---|" * len(eyes.names),
    ]
    for name, change in CHANGES.items():
        cosines: list[list[float]] = []
        for (_, photo), known in zip(photos, as_is, strict=True):
            seen = known and eyes.look(change(photo, known[0]))
            if known and seen:
                cosines.append([float(a @ b) for a, b in zip(seen[1], known[1], strict=True)])
        cells = [f"{np.median(own):.2f} ({min(own):.2f})" for own in zip(*cosines, strict=True)]
        rows.append(f"| {name} | {len(cosines)} of {len(photos)} | {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    return rows


def between_people(photos: Sequence[tuple[str, Image.Image]], eyes: Eyes) -> list[str]:
    """A row for each reader: cosines of photographs of one person and of two."""
    rows = [
        "| reader | pairs of one person: cosines | pairs of two people: mean, largest | equal error rate |",
        "|---|---|---|---|",
    ]
    seen = [(who, found[1]) for who, photo in photos if (found := eyes.look(photo))]
    for i, name in enumerate(eyes.names):
        pairs = [(a == b, float(f[i] @ g[i])) for (a, f), (b, g) in combinations(seen, 2)]
        same, different = (np.array([c for alike, c in pairs if alike == wanted]) for wanted in (True, False))
        if not len(same):
            return ["No person is on two of these photographs."]
        rate, _ = equal_error_rate(same, different)
        each = ", ".join(f"{c:.2f}" for c in sorted(same))
        rows.append(
            f"| {name} | {len(same)}: {each} | {len(different)}: {different.mean():.2f}, {different.max():.2f} "
            f"| {rate:.1%} |"
        )
        print(rows[-1], flush=True)
    return rows


def main(folders: Sequence[Path]) -> None:
    photos, eyes = photographs(folders), Eyes()
    people = sorted({name for name, _ in photos})
    text = [
        "# Readers of photographs, measured",
        "",
        f"{len(photos)} photographs of {len(people)} people ({', '.join(people)}), true weights. So few people say "
        "that it runs as it should, nothing about skin tones, ages or glasses: on photographs of yours, a group at a "
        "time, `celeb-basis evaluate --reader-check FOLDER` measures that.",
        "",
        "## Between people",
        "",
        *between_people(photos, eyes),
        "",
        "dlib's features all lie close together: what counts is the gap between one person's and two people's cosines.",
        "",
        "## The same photograph, made worse",
        "",
        "The cosine is with the photograph as it is.",
        "",
        *by_change(photos, eyes),
    ]
    (HERE / "results" / "faces.md").write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main([Path(each) for each in sys.argv[1:]] or [PHOTOS])

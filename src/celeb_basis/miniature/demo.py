"""The whole method once, on a model that ships: a photograph, an identity, one sheet of pictures, a few figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from .. import miniature
from ..backend.card import DEFAULT_MODEL
from ..evaluation.plots import contact_sheet
from ..faces.photo import open_photo
from ..image_files import save_image
from ..io import write_buffered
from ..model import Model

TOKEN = "<you>"
SCENES = {
    "on the beach": "a photo of {} on the beach wearing a red shirt",
    "in space": "a photo of {} in space wearing a spacesuit",
    "king of the forest": "a photo of {} smiling in the forest with a crown",
    "on tour": "a photo of {} in a city at night holding a guitar",
    "in the snow": "a photo of {} in the snow wearing a blue sweater with a blue cap",
    "close up": "a close up photo of {} smiling in a studio",
    "in the desert": "a photo of {} in the desert with a red hat",
    "at a party": "a photo of {} in a studio wearing a black suit holding a balloon",
    "as a sketch": "a pencil sketch of {} on the beach",
    "as pixel art": "a pixel art picture of {} in the snow wearing a yellow jacket",
}
COMPANY = ("a photo of {} and {} on the beach", "a photo of {} and {} in the forest wearing a black suit")
TOGETHER = 4  # pictures drawn at once
CANDIDATES = 4  # pictures of each prompt that are drawn of a real person, of which the likest is kept
CELEBRITIES = 5  # measured beside the person
FIRST_UNSEEN = 4000  # citizens from here on are kept for the demo


def run(
    out: Path,
    photo: Path | None,
    seed: int,
    progress: Callable[[int, int, str], None] | None = None,
    *,
    largest_face: bool = False,
) -> dict[str, Any]:
    """Fit the person in `photo`, or citizen number `seed`, and write photo, identity and contact sheet to `out`.

    A drawn face is learnt in the miniature, a real one in the model of photographed people.

    Returns what was learnt and measured. Raises PhotoError where no face is found that can be read, or several, of
    which `largest_face` takes the largest, and ModelError where what reads photographs is not installed.
    """
    start = time.perf_counter()
    picture = open_photo(photo) if photo else miniature.person(FIRST_UNSEEN + seed)
    model = Model.load(miniature.model_for([picture]))
    [face] = model.find_faces(picture, largest_face=largest_face)
    loaded = time.perf_counter()

    def report(step: int, whole: int, what: str) -> None:
        if progress:
            progress(step, whole, what)

    identity = model.fit(face, TOKEN, seed=seed, progress=lambda at: report(at.step, at.max_train_steps, "fitting"))
    fitted = time.perf_counter()

    basis = model.basis
    friends = [basis.names[(11 * seed + i) % len(basis.names)] for i in (3, 8)]
    prompts = [prompt.format(TOKEN) for prompt in SCENES.values()]
    prompts += [prompt.format(TOKEN, name) for prompt, name in zip(COMPANY, friends, strict=True)]
    titles = [*SCENES, *(f"with {name}" for name in friends)]
    heading = f"One photograph, {identity.coefficients(basis).numel()} numbers"
    candidates = 1 if model.name == DEFAULT_MODEL else CANDIDATES
    pictures = []
    for i in range(0, len(prompts), TOGETHER):
        report(i, len(prompts), "drawing")
        pictures += model.generate(
            prompts[i : i + TOGETHER], [identity], num_images_per_prompt=candidates, seed=seed, batch_size=TOGETHER
        )
    report(len(prompts), len(prompts), "drawing")
    drawn = time.perf_counter()
    if model.name == DEFAULT_MODEL:
        measured = model.evaluate(
            identity, picture, seeds=1, celebrities=CELEBRITIES, largest_face=largest_face, progress=report
        )
    else:  # its judge, dlib, is an extra of its own
        alike = [model.likeness(each, {TOKEN: face})[TOKEN] for each in pictures]
        kept = [_likest(alike, i, i + candidates) for i in range(0, len(pictures), candidates)]
        pictures = [pictures[k] for k in kept]
        measured = {
            "likeness": _mean(alike[k] for k in kept[: len(SCENES)]),
            "likeness of all that were drawn": _mean(alike[: len(SCENES) * candidates]),
            "likeness read by": f"{face.face_reader}, as in the fit: others may find less",
        }
        heading += f"; of {candidates} pictures of each scene the likest"

    out.mkdir(parents=True, exist_ok=True)  # not before, so that a failure leaves no folder
    with write_buffered(out / "photo.png") as buffer:
        picture.save(buffer, format="PNG")
    identity.save(out / "identity.safetensors")
    sheet = contact_sheet(picture, pictures, titles, heading)
    save_image(sheet, out / "contact-sheet.png", prompt=" | ".join(prompts), seed=seed, model=model.name)
    k = basis.components.shape[1]
    return {
        "model": model.name,
        "numbers learnt": f"2 x {k} = {2 * k} (2 x 512 = 1024 where the model's names span as many directions)",
        "seconds": {
            "fit": round(fitted - loaded, 1),
            "pictures": round(drawn - fitted, 1),
            "all": round(time.perf_counter() - start, 1),
        },
        **measured,
        "photo": str(out / "photo.png"),
        "identity file": str(out / "identity.safetensors"),
        "contact sheet": str(out / "contact-sheet.png"),
    }


def _likest(alike: Sequence[float | None], first: int, end: int) -> int:
    """Return the number of the picture in which the person is most alike; one in which nobody is seen comes last."""
    return max(range(first, end), key=lambda k: -1.0 if (cosine := alike[k]) is None else cosine)


def _mean(alike: Iterable[float | None]) -> float | None:
    """Return the mean over the pictures in which the person is seen; None where there is none."""
    seen = [cosine for cosine in alike if cosine is not None]
    return sum(seen) / len(seen) if seen else None

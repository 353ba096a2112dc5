"""Check: the whole way on one checkpoint, stage by stage, and a page of Markdown that tells of it."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch
from PIL import Image

from .backend.families import get_denoiser
from .backend.known_models import shared_name
from .errors import NoFaceError
from .evaluation.image_cache import ImageCache
from .evaluation.plots import contact_sheet
from .faces.face import mean_features
from .fit.recipe import DEFAULT_METHOD, DEFAULTS
from .image_files import save_image
from .io import write_atomically
from .limits import MAX_MESSAGE_LENGTH
from .model import Model
from .notation import excerpt

NAMES = 10
PERSON = "annika"
FACE = "a close-up photo of {}"  # of a name, and of the person who is made up where there is no photo
TRIES = 8  # pictures of somebody made up, until one shows one face
SCENES = (
    "a photo of {} on the beach",
    "a photo of {} smiling",
    "a photo of {} in the snow",
    "a pencil sketch of {}",
)
PHOTO, SIDE = "photo", 512  # title and pixels of the face in the sheet
CELEBRITIES = 3  # measured beside the person
GIB = 2**30
PARTS = ("celeb-basis", "torch", "diffusers", "transformers")


@dataclass(frozen=True, eq=False)
class Stage:
    """What was done, what it took, and what came of it.

    memory: GiB, the most in this stage on a GPU, or what the process has at its end.
    images: by their titles.
    """

    name: str
    seconds: float
    memory: float
    facts: Mapping[str, Any]
    images: Mapping[str, Image.Image] = field(default_factory=dict)


def check_stages(
    load: Callable[[], Model],
    photos: Sequence[Image.Image],
    *,
    judge: str | None = None,
    clip: str | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    **recipe: Any,
) -> Iterator[Stage]:
    """Go the whole way on a model, and yield each stage that is done: load, basis, names, photo, fit, draw, evaluate.

    load: returns the model.
    photos: of one person; without any, somebody is made up and their picture is the photo.
    judge, clip: see `Model.get_judge`. recipe: of the fit; milestones are drawn whatever the model's card says.
    progress: called with what is done of a stage.

    Raises what a stage raises.
    """
    clock = _Clock()
    model = load()
    network = get_denoiser(model.pipe).network
    device = next(network.parameters()).device
    yield clock.stage(
        "load",
        {
            "pipeline": type(model.pipe).__name__,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "precision": str(get_denoiser(model.pipe).dtype).removeprefix("torch."),
            "millions of weights": round(sum(weight.numel() for weight in network.parameters()) / 1e6),
            "resolution": get_denoiser(model.pipe).resolution,
        },
    )

    basis, instant_map = model.basis, model.instant_map
    facts: dict[str, Any] = {"names": len(basis.names), "components": basis.n_components}
    yield clock.stage("basis", facts | ({"map's R2": round(instant_map.loo_r2, 3)} if instant_map else {}))

    reader, names = model.face_reader, basis.names[:NAMES]
    drawn = []
    for i, name in enumerate(names):
        drawn += model.generate(FACE.replace("{}", name))
        progress(i + 1, len(names), "drawing names")
    alone = sum(len(faces) == 1 for faces in reader.read(drawn))
    yield clock.stage("names", {"one face in": f"{alone} of {len(drawn)}"}, dict(zip(names, drawn, strict=True)))

    given: Any = list(photos) or _made_up(model)
    faces = model.find_faces(given)
    flaws = sorted({flaw for face in faces for flaw in face.flaws})
    what = "given" if photos else "drawn by the model, of somebody made up"
    facts = {"photos": f"{len(faces)}, {what}", "reader": faces[0].face_reader, "flaws": "; ".join(flaws) or "none"}
    yield clock.stage("photo", facts, {PHOTO: faces[0].crop.resize((SIDE, SIDE), Image.Resampling.BICUBIC)})

    milestones = []
    settings = {"num_milestones": DEFAULTS[DEFAULT_METHOD].num_milestones, **recipe}
    for at in model.fit_steps(faces, PERSON, **settings):
        if at.likeness:
            milestones.append(f"{at.likeness[0]:.2f} at step {at.step}")
        progress(at.step, at.max_train_steps, "fitting")
    [annika] = at.identities
    radii = annika.coefficients(basis).norm(dim=-1) / basis.median_radius
    facts = {"steps": at.step, "loss": round(at.loss, 4), "likeness": ", ".join(milestones) or "not drawn"}
    facts |= {"kept step": annika.provenance.get("kept_step", "the last")}
    yield clock.stage("fit", facts | {"radii from the mean": ", ".join(f"{radius:.2f}" for radius in radii.tolist())})

    scenes = []
    for i, scene in enumerate(SCENES):
        scenes += model.generate(scene.replace("{}", annika.placeholder_token), [annika], seed=1)
        progress(i + 1, len(SCENES), "drawing")
    [own] = mean_features([faces])
    found = [float(seen[0].feature @ own) if len(seen) == 1 else 0.0 for seen in reader.read(scenes)]
    facts = {"one face in": f"{sum(map(bool, found))} of {len(scenes)}", "size": "x".join(map(str, scenes[0].size))}
    facts |= {"likeness": ", ".join(f"{alike:.2f}" for alike in found), "seconds a picture": clock.each(len(scenes))}
    yield clock.stage("draw", facts, dict(zip(SCENES, scenes, strict=True)))

    report = model.evaluate(
        annika,
        given,
        judge=model.get_judge([annika], reader=judge, clip=clip),
        seeds=1,
        celebrities=CELEBRITIES,
        image_cache=ImageCache(model.pipe, None, None),
        progress=progress,
    )
    facts = {"judge": report["judge"], "prompts": report["prompt_measure"]} | _means(report)
    yield clock.stage("evaluate", facts | {f"celebrities' {name}": mean for name, mean in _means(
        report.get("celebrities", {})).items()})  # fmt: skip


def write_page(folder: Path, model: str, stages: Sequence[Stage], error: Exception | None = None) -> Path:
    """Write check.md and the sheet of pictures that it shows into a folder; return the page.

    error: what ended the way before its end.
    """
    lines = [f"# celeb-basis check of {_cell(shared_name(model))}", ""]
    lines += [
        ", ".join(f"{name} {version(name)}" for name in PARTS) + f", {platform.system()} {platform.machine()}",
        "",
    ]
    lines += ["| stage | seconds | GiB | what came of it |", "|---|---|---|---|"]
    for stage in stages:
        lines.append(f"| {stage.name} | {stage.seconds:.1f} | {stage.memory:.1f} | {_cell(_told(stage.facts))} |")
    if error is not None:
        said = excerpt(" ".join(f"{type(error).__name__}: {error}".split()), MAX_MESSAGE_LENGTH)
        lines += ["", f"**It ended after {stages[-1].name if stages else 'nothing'}:** {_cell(said)}"]
    # The person first, beside the photo.
    images = {title: image for stage in reversed(stages) for title, image in stage.images.items()}
    if (photo := images.pop(PHOTO, None)) is not None and images:
        titles = [excerpt(title.replace("{}", PERSON), 28) for title in images]
        sheet = contact_sheet(photo, list(images.values()), titles, "celeb-basis check")
        save_image(sheet, folder / "check.png", model=model)
        lines += ["", "![the photo, names that the model knows or not, and the person](check.png)"]
    page = folder / "check.md"
    with write_atomically(page) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return page


class _Clock:
    """Seconds and memory since the stage before."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._begun = time.perf_counter()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def each(self, count: int) -> float:
        """Return the seconds that each of some things took in this stage so far."""
        return round((time.perf_counter() - self._begun) / count, 2)

    def stage(self, name: str, facts: Mapping[str, Any], images: Mapping[str, Image.Image] = {}) -> Stage:
        """Return the stage that ends now, and begin the next."""
        on_gpu = torch.cuda.is_available() and torch.cuda.max_memory_allocated()
        memory = on_gpu or psutil.Process().memory_info().rss
        done = Stage(name, time.perf_counter() - self._begun, memory / GIB, facts, images)
        self._begin()
        return done


def _made_up(model: Model) -> Image.Image:
    """Return a picture with one face of a person who does not exist."""
    person = model.sample(PERSON)
    for seed in range(TRIES):
        [image] = model.generate(FACE.replace("{}", person.placeholder_token), [person], seed=seed)
        if len(model.face_reader.read([image])[0]) == 1:
            return image
    raise NoFaceError(f"in {TRIES} pictures of somebody made up no reader finds one face: name a folder of photos")


def _means(report: Mapping[str, Any]) -> dict[str, float]:
    return {name: round(report[name]["mean"], 3) for name in ("identity", "prompt", "detection") if name in report}


def _told(facts: Mapping[Any, Any]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in facts.items())


def _cell(text: str) -> str:
    """Return text as a cell of a table in Markdown shows it."""
    text = " ".join(text.split())
    for sign in "\\`*_|[]<>":
        text = text.replace(sign, f"\\{sign}")
    return text

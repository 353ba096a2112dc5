"""Every command on every published checkpoint, in this process: the table of docs/models.md is what comes out here."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from called import answer
from conftest import NAMES
from PIL import Image
from published import CHECKPOINTS, SIDE, build

import celeb_basis
from celeb_basis import Identity, PromptError, Recipe
from celeb_basis.backend.defaults import drawing_defaults
from celeb_basis.evaluation.protocols import Protocol
from celeb_basis.fleet.jobs import EvaluateJob, FitJob, GenerateJob
from celeb_basis.fleet.table import Row
from celeb_basis.known_names import Portraits, default_draw_settings
from celeb_basis.web import Studio
from celeb_basis.web.session import Session

MODELS_PAGE = Path(__file__).parents[2] / "docs" / "models.md"
# In which a checkpoint runs its first commands too: those that its weights are trained in.
HALVES = [
    ("stable-diffusion-v1-5", "float16"), ("stable-diffusion-v1-5", "bfloat16"),
    ("stable-diffusion-xl-base-1.0", "float16"), ("stable-diffusion-xl-base-1.0", "bfloat16"),
    ("FLUX.1-dev", "bfloat16"), ("FLUX.1-dev", "float16"),
    ("Z-Image-Turbo", "bfloat16"), ("Z-Image-Turbo", "float16"),
]  # fmt: skip
COLUMNS = (
    "checkpoint", "`fit`", "`generate`", "by default", "`--image`", "`--apart`", "`--negative-prompt`", "`evaluate`",
    "`basis`", "`basis --filter`", "fleet", "page",
)  # fmt: skip
YES = "yes"


@pytest.fixture(scope="module")
def rows():
    """What the tests below found: the table's rows, by the checkpoint."""
    return {}


@pytest.fixture(scope="module", autouse=True)
def readers(tmp_path_factory):
    """Installs the reader and the judge that the cards name, and lets few names be made up."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "published-1.0.dist-info").mkdir()
    (folder / "published-1.0.dist-info" / "METADATA").write_text("Name: published\nVersion: 1.0\n")
    (folder / "published-1.0.dist-info" / "entry_points.txt").write_text(
        "[celeb_basis.face_readers]\npublished = published_readers:Reader\n"
        "[celeb_basis.judges]\npublished = published_readers:Judge\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(celeb_basis.model, "MADE_UP_NAMES", 3)
        yield


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    return Studio(tmp_path_factory.mktemp("page"))


def checkpoint(name, folder):
    """A folder as it is downloaded, beside it what the commands need."""
    model = build(name, folder)
    card = {"resolution": SIDE, "face_reader": "published", "judge": "published", "portraits": ["{}", "a photo of {}"]}
    (model / "celeb_basis.json").write_text(json.dumps(card))
    (folder / "names.txt").write_text("\n".join(NAMES))
    (folder / "prompts.txt").write_text("a photo of {}\n")
    g = torch.Generator()
    for i, photo in enumerate(("zaza", "bodil")):
        noise = torch.randint(256, (SIDE, SIDE, 3), generator=g.manual_seed(i), dtype=torch.uint8)
        Image.fromarray(noise.numpy()).save(folder / f"{photo}.png")
    return model


def basics(capsys, name, folder, dtype="float32"):
    """Run the first commands; return how each asks for the model, and the row so far."""
    asked = ["--model", folder / name, "--device", "cpu", "--dtype", dtype]
    made = answer(capsys, "basis", *asked, "--names", folder / "names.txt", "-o", folder / name)
    assert made["names"] == len(NAMES)
    steps = ["--steps", 1, "--num-train-images", 1, "--batch-size", 1]
    answer(capsys, "fit", folder / "zaza.png", *asked, *steps, "-o", folder / "zaza.safetensors")
    zaza = Identity.load(folder / "zaza.safetensors")
    assert zaza.placeholder_token == "<zaza>" and zaza.provenance["steps"] == "1"
    said = answer(
        capsys, "generate", "a photo of <zaza>", "--identity", folder / "zaza.safetensors", *asked, "--steps", 2,
        "-o", folder / "drawn.png",
    )  # fmt: skip
    with Image.open(said["pictures"][0]) as drawn:
        assert drawn.size == (SIDE, SIDE) and "zaza" in drawn.text["identities"] and drawn.getbbox()
    return asked, {"fit": YES, "generate": YES}


def drawn_or_refused(model, people, prompt="a photo of <zaza>", **options):
    """Whether a model draws with these options of `generate`, or one line refuses them."""
    try:
        [image] = model.generate(prompt, people, num_inference_steps=4, **options)
    except PromptError as error:
        assert "\n" not in str(error)
        assert re.search("takes no (regions|negative prompt)|draws no picture anew", str(error))
        return "refused"
    assert image.size == (SIDE, SIDE)
    return YES


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_command_runs(name, capsys, tmp_path, rows, studio):
    checkpoint(name, tmp_path)
    asked, row = basics(capsys, name, tmp_path)
    measured = answer(
        capsys, "evaluate", "--identity", tmp_path / "zaza.safetensors", "--photo", tmp_path / "zaza.png", *asked,
        "--prompts", tmp_path / "prompts.txt", "--seeds", 1, "--steps", 1, "--celebrities", 1, "-o", tmp_path / "out",
    )  # fmt: skip
    assert measured["n_images"] == 1 and (tmp_path / "out" / "report.json").is_file()
    row |= {"evaluate": YES, "basis": YES}

    found = answer(
        capsys, "basis", *asked, "--filter", "--names", tmp_path / "names.txt", "--num-names", 5, "--num-images", 2,
        "-o", tmp_path / "known",
    )  # fmt: skip
    assert found["names_drawn"] == 5 and found["names"] >= 3
    assert (tmp_path / "known" / "instant_map.safetensors").is_file()
    steps, _, scheduler = json.loads(Portraits.load(tmp_path / "known" / "faces.safetensors").drawn)[-3:]

    page = Session(studio)
    page.choose_model(str(tmp_path / name), None, None)
    model = page.model
    defaults, settings = drawing_defaults(model.pipe), default_draw_settings(model.pipe)
    assert steps in [each.num_inference_steps or defaults.num_inference_steps for each in settings]
    row["by default"] = f"{in_words(defaults.num_inference_steps)}, guidance {defaults.guidance_scale:g}"
    row["basis --filter"] = f"{in_words(steps)}, {re.sub('Scheduler|Discrete|Multistep', '', scheduler)}"
    model.pipe.card = replace(model.card, num_inference_steps=1)  # its portraits
    *_, last = page.fit(str(tmp_path / "zaza.png"), "eve", 1)
    assert last.person.file.is_file() and last.person.portrait.is_file()
    [drawing] = page.draw("a photo of <eve>", 1, 1, None, 0)
    assert drawing.file.is_file()
    row["page"] = YES

    zaza = Identity.load(tmp_path / "zaza.safetensors")
    pair, photo = [zaza, replace(zaza, placeholder_token="<bodil>")], Image.open(tmp_path / "bodil.png")
    row["--image"] = drawn_or_refused(model, [zaza], image=photo)
    row["--apart"] = drawn_or_refused(model, pair, "<zaza> and <bodil>", regions="auto")
    row["--negative-prompt"] = drawn_or_refused(model, [zaza], negative_prompt="a beach", guidance_scale=3)
    row["fleet"] = fleet(model, tmp_path)
    rows[name] = [name, *(row[column.replace("`", "")] for column in COLUMNS[1:])]


def in_words(steps):
    return f"{steps} step{'s' * (steps > 1)}"


def fleet(model, folder):
    """Run the three jobs on two people, as a worker does; Ray itself is tested with the miniature."""
    loading = {"model": model.name, "device": "cpu", "dtype": torch.float32}
    recipe = Recipe(max_train_steps=1, num_train_images=1, train_batch_size=1)
    out, people = folder / "fleet", [Row(each, (f"{folder}/{each}.png",)) for each in ("zaza", "bodil")]
    fitting = FitJob(loading, None, None, None, str(out), "celeb-basis", recipe, False, False)
    fitting.__dict__["model"] = model  # which a worker loads
    lines = fitting.process([(row, None) for row in people])
    assert [line["error"] for line in lines] == [None, None]
    fitted = [Row(row.name, row.photos, f"{out}/{row.name}.safetensors") for row in people]
    drawing = GenerateJob(loading, None, None, None, str(out), ["a photo of {}"], 1, 0, {"num_inference_steps": 1})
    protocol = Protocol({"yours": ["a photo of {}"]})
    measuring = EvaluateJob(loading, None, None, None, str(out), protocol, 1, 0, 1, None, None, None, None, None, False)
    for job in (drawing, measuring):
        job.__dict__["model"] = model
        assert [line["error"] for line in job.process([(row, None) for row in fitted])] == [None, None]
    assert len(list(out.rglob("*.png"))) == 2
    return YES


@pytest.mark.parametrize(("name", "dtype"), HALVES)
def test_the_first_commands_run_in_half_precision(name, dtype, capsys, tmp_path, rows):
    checkpoint(name, tmp_path)
    basics(capsys, name, tmp_path, dtype)
    rows[f"{name}, {dtype}"] = [f"{name}, {dtype}", YES, YES, *["–"] * (len(COLUMNS) - 4), YES]


def test_the_table_in_the_documents_is_what_came_out(rows):
    whole = [rows[name] for name in CHECKPOINTS if name in rows]
    if len(whole) < len(CHECKPOINTS):
        pytest.skip("only some checkpoints were run")
    lines = [f"| {' | '.join(row)} |" for row in (COLUMNS, ["---"] * len(COLUMNS), *whole)]
    table = "\n".join(lines)
    [documented] = re.findall(r"<!-- table: checkpoints -->\n(.*?)<!-- /table -->", MODELS_PAGE.read_text(), re.DOTALL)
    assert documented.strip() == table, f"docs/models.md should say\n{table}"

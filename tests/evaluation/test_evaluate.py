"""Figures of people: what is drawn, who judges, what is refused; on a true architecture with random weights."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import NAMES, make_pipeline
from photographs import photograph
from PIL import Image

from celeb_basis import CelebBasis, CelebBasisError, Identity, ModelCard, ModelError
from celeb_basis.cli import main
from celeb_basis.cli.evaluate import PROTOCOL_NAMES
from celeb_basis.errors import PhotoError
from celeb_basis.evaluation import evaluate as module
from celeb_basis.evaluation.clip import Clip
from celeb_basis.evaluation.evaluate import Person, evaluate, evaluate_people, without_celebrities
from celeb_basis.evaluation.image_cache import ImageCache, ImageRequest
from celeb_basis.evaluation.judge import get_judge
from celeb_basis.evaluation.people_table import read_people
from celeb_basis.evaluation.plots import contact_sheet
from celeb_basis.evaluation.protocols import PROTOCOLS, Protocol
from celeb_basis.faces.face import Face

PROMPTS = {"plain": ("a photo of {}", "the face of {}"), "together": ("{} and {1}",)}


class Colours:
    """A judge for which the mean colour of a picture is its face, and that sees as many faces as asked to."""

    name, measure = "colours", "how red"

    def __init__(self, faces=1):
        self.reader, self._faces = self, faces

    def read(self, images):
        return [[self._face(image)] * self._faces for image in images]

    def _face(self, image):
        colour = torch.tensor(np.asarray(image, dtype=np.float32).mean((0, 1)))
        return Face(image, (0, 0, 1, 1), torch.nn.functional.normalize(colour - 128, dim=0), self.name)

    def prompt_scores(self, images, prompts):
        return [float(np.asarray(image)[..., 0].mean()) for image in images]

    def features(self, images):
        return torch.stack([self._face(image).feature for image in images])

    def photograph(self, name):
        return None


@pytest.fixture(scope="module")
def sd():
    return make_pipeline("sd1")


@pytest.fixture(scope="module")
def sd_basis(sd):
    return CelebBasis.from_pipeline(sd, NAMES)


@pytest.fixture
def hopper_file(tmp_path):
    photograph("hopper").save(tmp_path / "hopper.jpg", quality=95)
    return tmp_path / "hopper.jpg"


def somebody(basis, token="<ada>", seed=1, reader="sface-2021dec-int8bq"):
    made = Identity.sample(basis, token, torch.Generator().manual_seed(seed))
    return Identity.from_vectors(basis, made.vectors, token, {"face_reader": reader})


def test_people_are_measured_beside_the_names_of_the_basis(sd, sd_basis):
    people = [
        Person(somebody(sd_basis), [Image.new("RGB", (8, 8), "red")]),
        Person(somebody(sd_basis, "<bo>", 2), [Image.new("RGB", (8, 8), "blue")]),
    ]
    report, measured = evaluate_people(
        sd, people, judge=Colours(), basis=sd_basis, protocol=Protocol(PROMPTS), seeds=2, celebrities=3,
        with_diversity=True, image_cache=ImageCache(sd, num_inference_steps=2),
    )  # fmt: skip
    assert report["n_images"] == 12 and [row["name"] for row in report["people"]] == ["<ada>", "<bo>"]
    assert report["celebrities"]["n_images"] == 18
    assert measured[0].kinds == ["plain"] * 4 + ["together"] * 2
    assert measured[0].prompts[0] == "a photo of a person" and measured[0].prompts[4] == "a person and another person"
    for own, row in zip(measured, report["people"], strict=True):
        assert row["identity"]["mean"] == pytest.approx(own.scores.identity.mean())
        plain, together = row["kinds"].values()
        assert (4 * plain["identity"]["mean"] + 2 * together["identity"]["mean"]) / 6 == pytest.approx(
            row["identity"]["mean"]
        )
        # One face is what "plain" asks for; "together" asks for two.
        assert plain["detection"]["mean"] == 1 and together["detection"]["mean"] == 0
        pairs = [own.pictures[i : i + 2] for i in (0, 2, 4)]
        by_hand = [1 - float(torch.prod(Colours().features(pair), dim=0).sum()) for pair in pairs]
        assert own.diversity == pytest.approx(by_hand, abs=1e-5)
        products = [own.scores.identity[i : i + 2].mean() * by_hand[i // 2] for i in (0, 2, 4)]
        assert row["identity_x_diversity"]["mean"] == pytest.approx(np.mean(products), abs=1e-5)
    mean = (report["people"][0]["identity"]["mean"] + report["people"][1]["identity"]["mean"]) / 2
    assert report["identity"]["mean"] == pytest.approx(mean)


def test_names_without_a_face_are_counted(sd, sd_basis):
    person = Person(somebody(sd_basis), [Image.new("RGB", (8, 8), "red")])
    judge = Colours()
    judge.read = lambda images: [[judge._face(image)] * (1 if image.size == (8, 8) else 2) for image in images]
    report, _ = evaluate_people(
        sd, [person], judge=judge, basis=sd_basis, protocol=Protocol({"plain": ("a photo of {}",)}), seeds=1,
        celebrities=2, image_cache=ImageCache(sd, num_inference_steps=1),
    )  # fmt: skip
    assert report["celebrities_without_a_face"] == 2 and "celebrities" not in report
    assert report["detection"]["mean"] == 0


def test_pictures_are_kept_and_never_another_persons(sd, sd_basis, tmp_path):
    ada, other = somebody(sd_basis), somebody(sd_basis, seed=5)
    image_cache = ImageCache(sd, num_inference_steps=1, folder=tmp_path)
    wanted = [ImageRequest("a photo of <ada>", seed) for seed in (0, 1)]
    first = image_cache.draw(wanted, [ada])
    assert len(list(tmp_path.iterdir())) == 2
    for file in tmp_path.iterdir():  # what lies there is what is taken
        Image.new("RGB", (4, 4), "green").save(file)
    assert [picture.size for picture in image_cache.draw(wanted, [ada])] == [(4, 4)] * 2
    again = image_cache.draw(wanted, [other])
    more = ImageCache(sd, num_inference_steps=2, folder=tmp_path).draw(wanted, [ada])
    assert all(picture.size == first[0].size for picture in (*again, *more)) and len(list(tmp_path.iterdir())) == 6


def test_what_was_drawn_before_a_stop_is_not_drawn_again(sd, sd_basis, tmp_path, monkeypatch):
    wanted = [ImageRequest("a photo of <ada>", seed) for seed in range(4)]
    image_cache = ImageCache(sd, num_inference_steps=1, folder=tmp_path)
    draw, calls = module.ImageCache.draw.__globals__["generate"], []

    def stops(*args, **options):
        calls.append(options["seed"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return draw(*args, **options)

    monkeypatch.setattr("celeb_basis.evaluation.image_cache.generate", stops)
    with pytest.raises(KeyboardInterrupt):
        image_cache.draw(wanted, [somebody(sd_basis)])
    assert len(image_cache.draw(wanted, [somebody(sd_basis)])) == 4 and calls == [0, 1, 2, 2, 3]


def test_what_cannot_be_measured_is_one_line(sd, sd_basis):
    person = Person(somebody(sd_basis), [Image.new("RGB", (8, 8), "red")])
    for options, says in (
        ({"with_diversity": True, "seeds": 1}, "draw 2 or more of each"),
        ({"celebrities": 3}, "those of a basis"),
        ({"protocol": PROTOCOLS["paper"]}, "whom a basis names"),
    ):
        with pytest.raises(ModelError, match=says):
            evaluate_people(sd, [person], judge=Colours(), **options)


# Who may judge


def test_the_judge_is_not_the_reader_of_the_fit(sd, sd_basis, caplog):
    assert get_judge(sd, [somebody(sd_basis)], clip="none").reader.name == "dlib-resnet-v1"
    fitted_by_dlib = somebody(sd_basis, reader="dlib-resnet-v1")
    with pytest.raises(ModelError, match=r"was fitted with dlib-resnet-v1.*name another one"):
        get_judge(sd, [fitted_by_dlib], reader="dlib", clip="none")
    # Float and int8 weights of one network are one reader in this respect.
    with pytest.raises(ModelError, match="cannot judge"):
        get_judge(sd, [somebody(sd_basis, reader="sface-2021dec")], reader="sface-int8", clip="none")
    assert not caplog.messages
    get_judge(sd, [Identity("<old>", fitted_by_dlib.vectors, fitted_by_dlib.encoder_dims)], clip="none")
    assert "does not say which face reader" in caplog.messages[0]


def test_without_dlib_and_hub_what_is_missing_is_said(sd, sd_basis, monkeypatch):
    monkeypatch.setattr("celeb_basis.evaluation.judge.CANDIDATES", ("sface-int8",))
    assert get_judge(sd, [somebody(sd_basis, reader="auraface-v1")], clip="none").reader.name == "sface-2021dec-int8bq"
    monkeypatch.setattr("celeb_basis.evaluation.judge.CANDIDATES", ("auraface",))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="fitted nobody here"):
        get_judge(sd, [somebody(sd_basis)], clip="none")


def test_the_miniature_brings_its_own_judge():
    from celeb_basis.backend.load import load_pipeline

    pipe = load_pipeline("miniature")
    basis = CelebBasis.load(pipe.card.basis)
    assert get_judge(pipe, [somebody(basis, reader="miniature-fitting")]).reader.name == "miniature-evaluation"
    with pytest.raises(ModelError, match="leave out dlib"):
        get_judge(pipe, [], reader="dlib")
    with pytest.raises(ModelError, match="cannot judge"):
        get_judge(pipe, [somebody(basis, reader="miniature-evaluation")])


# From the command line


def test_a_stable_diffusion_is_evaluated_end_to_end(
    sd, sd_basis, tiny_clip, hopper_file, tmp_path, monkeypatch, capsys
):
    """True face weights, a tiny CLIP, random pictures: everything runs, and nothing in them is anybody."""
    monkeypatch.chdir(tmp_path)
    sd.save_pretrained("sd")
    sd_basis.save("basis.safetensors")
    somebody(sd_basis).save("ada.safetensors")
    somebody(sd_basis, "<bo>", 3).save("bo.safetensors")
    somebody(sd_basis, "<star>", 4).save("star.safetensors")
    (tmp_path / "prompts.txt").write_text("a photo of {}\nthe face of {}\n")
    (tmp_path / "people.csv").write_text(
        f"identity,photo,name\nada.safetensors,{hopper_file},\nbo.safetensors,{hopper_file},Bo\n"
        f"star.safetensors,{hopper_file},{sd_basis.names[2]}\n"
    )
    common = ["--model", "sd", "--device", "cpu", "--basis", "basis.safetensors", "--clip", str(tiny_clip)]
    common += ["--prompts", "prompts.txt", "--steps", "1", "--celebrities", "1", "--json"]

    def answer(*words):
        assert main(["evaluate", *words, *common]) == 0
        return json.loads(capsys.readouterr().out)

    one = answer("--identity", "ada.safetensors", "--photo", str(hopper_file), "--diversity")
    assert one["judge"] == "dlib-resnet-v1" and str(tiny_clip) in one["prompt_measure"]
    assert one["n_images"] == 4 and 0 <= one["prompt"]["mean"] <= 100 and 0 <= one["diversity"]["mean"] <= 2
    assert one["detection"]["mean"] == 0 and one["identity"]["mean"] == 0 and one["celebrities_without_a_face"] == 1
    [sheet] = one["contact_sheets"]
    assert Image.open(sheet).width > 500 and json.loads((tmp_path / "evaluation/report.json").read_text())
    (tmp_path / "photos").mkdir()
    shutil.copy(hopper_file, tmp_path / "photos")
    of_folder = answer("--identity", "ada.safetensors", "--photo", "photos", "--diversity")
    assert {key: of_folder[key] for key in ("identity", "prompt")} == {key: one[key] for key in ("identity", "prompt")}
    both = answer("--people", "people.csv")
    assert [row["name"] for row in both["people"]] == ["<ada>", "<bo>"] and len(both["contact_sheets"]) == 2
    assert both["people"][0]["prompt"] == one["prompt"] and both["left_out"] == [sd_basis.names[2]]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "say what is measured"),
        ("--identity a.safetensors", "belong together"),
        ("--identity a --photo b --people c", "say what is measured"),
        ("--people nobody.csv", "nobody.csv: there is no such file"),
        ("--people /dev/zero", "is a pipe or a device"),
        ("--reader-check nowhere", "no such folder"),
        ("--multiid-bench nowhere --clip none", "MultiID-Bench"),
        ("--multiid-bench nowhere --clip nowhere/at-all", "leave prompts unmeasured"),
    ],
)
def test_wrong_input_is_one_line(words, says, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["evaluate", *words.split()]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"identity,photo\n" + b"a" * 200_000 + b",b", "cannot be read as a table"),
        (b"a" * 200_000, "cannot be read as a table"),
        (b"identity,photo\nann\0,photo.jpg", "is no name of a file"),
        (b"identity,photo\nann.safetensors", "line 2"),
        (b"\xff\xfe", "not UTF-8 text"),
    ],
)
def test_a_table_that_is_none_is_one_line(content, says, tmp_path):
    (tmp_path / "people.csv").write_bytes(content)
    with pytest.raises(CelebBasisError, match=says):
        read_people(tmp_path / "people.csv")


@pytest.mark.parametrize(
    ("content", "says"), [("{}\n" * 20_000, "20000 prompts: at most"), ("\xff", "with {} once"), (None, "a device")]
)
def test_prompts_that_cannot_be_drawn_are_one_line(content, says, sd_basis, hopper_file, tmp_path, capsys):
    somebody(sd_basis).save(tmp_path / "a.safetensors")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(content) if content else prompts.symlink_to("/dev/zero")
    command = ["evaluate", "--identity", str(tmp_path / "a.safetensors"), "--photo", str(hopper_file)]
    assert main([*command, "--prompts", str(prompts), "-o", str(tmp_path / "out")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line


def test_evaluating_takes_an_identity_and_a_photo(sd, sd_basis):
    report = evaluate(
        sd, somebody(sd_basis), Image.new("RGB", (8, 8), "red"), judge=Colours(), seeds=1,
        protocol=Protocol({"plain": ("a photo of {}",)}), image_cache=ImageCache(sd, num_inference_steps=1),
    )  # fmt: skip
    assert report["n_images"] == 1 and report["judge"] == "colours"


def test_protocols_have_the_prompts_they_promise():
    assert PROTOCOL_NAMES == tuple(PROTOCOLS)
    counts = {name: {kind: len(texts) for kind, texts in PROTOCOLS[name].prompts.items()} for name in PROTOCOLS}
    assert counts["stable-identity"] == dict.fromkeys(
        ("decoration", "action", "expression", "surroundings", "style"), 8
    )
    assert counts["paper"]["expression"] == 6 and len(counts["paper"]) == 5
    assert sum(counts["celeba-hq"].values()) == 20 and counts["celeba-hq"]["style"] == 5
    for protocol in PROTOCOLS.values():
        texts = [text for texts in protocol.prompts.values() for text in texts]
        assert len(set(texts)) == len(texts) and all(text.count("{}") == 1 for text in texts)
        assert set(protocol.negative_prompts) <= set(protocol.prompts)
        assert bool(protocol.published) == bool(protocol.source) == bool(protocol.differs)


def test_the_name_is_deleted_from_what_the_paper_scores():
    paper = PROTOCOLS["paper"]
    assert paper.scored("a sketch of {} person") == "a sketch of person"
    assert paper.scored("{} person hugging {1} person in a park") == "person hugging another person in a park"
    assert PROTOCOLS["short"].scored("a photo of {} and {1}") == "a photo of a person and another person"


def test_the_papers_pictures_are_drawn_as_published(sd, sd_basis, monkeypatch):
    """Guidance, sampler and negative prompts are the protocol's, unless the caller or the model's card has others."""
    asked = []

    def notes(pipe, texts, identities, **options):
        asked.append((tuple(texts), options))
        return [Image.new("RGB", (8, 8), "red")] * len(texts)

    monkeypatch.setattr("celeb_basis.evaluation.image_cache.generate", notes)
    person = Person(somebody(sd_basis), [Image.new("RGB", (8, 8), "red")])

    def report(pipe, basis, **options):
        asked.clear()
        return evaluate_people(
            pipe, [person], judge=Colours(), basis=basis, protocol=PROTOCOLS["paper"], seeds=1, celebrities=1,
            image_cache=ImageCache(pipe, **options),
        )[0]  # fmt: skip

    found = report(sd, sd_basis)
    how = found["drawn_with"]
    assert (how["num_inference_steps"], how["guidance_scale"], how["scheduler"]) == (50, 10.0, "DDIMScheduler")
    assert how["negative_prompts"] == PROTOCOLS["paper"].negative_prompts
    of_styles = [options for texts, options in asked if any("sketch of <ada> person" in text for text in texts)]
    assert [options["negative_prompt"] for options in of_styles] == [PROTOCOLS["paper"].negative_prompts["style"]]
    texts = {text for texts, _ in asked for text in texts}
    assert f"a pencil sketch of {sd_basis.names[0]}" in texts, "a celebrity's name stands alone"
    assert found["any_face"]["mean"] == 1 and found["identity_where_found"]["mean"] == pytest.approx(
        found["identity"]["mean"]
    )
    assert found["published"]["Celeb Basis"]["identity"] == 20.72 and found["published_differs"]
    own = report(sd, sd_basis, guidance_scale=2.0, sampler="euler", negative_prompt="")["drawn_with"]
    assert own == {"num_inference_steps": 50, "guidance_scale": 2.0, "scheduler": "EulerDiscreteScheduler"}
    assert report(sd, sd_basis, negative_prompt="fog")["drawn_with"]["negative_prompts"]["style"] == "fog"
    monkeypatch.setattr(sd, "card", ModelCard(num_inference_steps=7, guidance_scale=3.0), raising=False)
    assert report(sd, sd_basis)["drawn_with"]["guidance_scale"] == 3.0
    assert {options["negative_prompt"] for _, options in asked} == {None}


def test_people_in_the_basis_are_left_out_and_named(sd_basis):
    people = [Person(somebody(sd_basis), [], name) for name in ("Nobody Known", sd_basis.names[1].upper(), "")]
    kept, left_out = without_celebrities(people, sd_basis.names)
    assert kept == [people[0], people[2]] and left_out == [sd_basis.names[1].upper()]
    assert without_celebrities(people, ()) == (people, [])
    with pytest.raises(PhotoError, match="everybody is in the basis"):
        without_celebrities(people[1:2], sd_basis.names)


def test_the_sheet_holds_every_picture():
    colours = [(250, 10 * i, 0) for i in range(9)]
    pictures = [Image.new("RGB", (8, 8), colour) for colour in colours]
    sheet = contact_sheet(Image.new("RGB", (30, 40), "blue"), pictures, [""] * 9, "nine", side=50)
    there = {colour for _, colour in sheet.getcolors(100_000)}
    assert {(0, 0, 255), *colours} <= there


def test_a_clip_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="or none to leave prompts"):
        Clip.load("nobody/nothing")

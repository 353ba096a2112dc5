"""The page: through Gradio's client as programs use it, and in a browser as people do."""

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from html import unescape
from pathlib import Path

import httpx
import pytest
from conftest import NAMES, make_pipeline, state_of
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError, AuthenticationError
from photographs import PHOTOS
from PIL import Image

import celeb_basis
from celeb_basis import CelebBasis, Identity, NoFaceError, OutputError, PromptError, miniature
from celeb_basis.backend.card import SHIPPED
from celeb_basis.backend.pipeline import pipeline_lock
from celeb_basis.cli import main
from celeb_basis.fit.recipe import DEFAULTS
from celeb_basis.generate import generate
from celeb_basis.miniature.drawn.world import SIZE
from celeb_basis.web import Studio, serve
from celeb_basis.web.placing import read_boxes, written
from celeb_basis.web.server import _listening
from celeb_basis.web.session import Session

CHROMIUM = Path("/usr/bin/chromium")
QUIET = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
STEPS = 2


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    return Studio(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def address(studio):
    with serve(studio) as address:
        yield address


@pytest.fixture
def visitor(address):
    """Calls the page's functions by name, in a session of its own."""
    client = Client(address, verbose=False)
    return lambda name, *args: client.predict(*args, api_name=f"/{name}")


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    file = tmp_path_factory.mktemp("photos") / "ada.jpg"
    miniature.person(4321).save(file)
    return file


@pytest.fixture
def unet_calls(studio):
    """One entry for each time the model is used."""
    calls = []
    hook = studio.first.pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    yield calls
    hook.remove()


def silence_libraries(studio, calls):
    """Whether the model is left alone for two seconds."""
    with pipeline_lock(studio.first.pipe):
        before = len(calls)
    threading.Event().wait(2)
    return len(calls) == before


def fit(visitor, photo, name, steps=0, more=()):
    return visitor("fit", handle_file(photo), name, steps, None, [handle_file(each) for each in more])


# Through the client


def test_from_photo_to_pictures(address, photo, studio):
    client = Client(address, verbose=False)
    [face], _, said = client.predict(handle_file(photo), api_name="/find_face")
    crop = Image.open(face["image"])
    assert crop.width == crop.height < 512 and "Found the face" in said
    job = client.submit(handle_file(photo), "ada", STEPS, None, api_name="/fit")
    line, strip, file = job.result()
    assert "Step 0 of 2" in job.outputs()[0][0]
    assert [picture["caption"] for picture in job.outputs()[0][1]] == ["instant"]
    assert "&lt;ada&gt; can be named" in line
    assert [picture["caption"] for picture in strip] == ["instant", "1 step", "2 steps"]
    identity = Identity.load(file)
    assert identity.placeholder_token == "<ada>" and identity.provenance["max_train_steps"] == str(STEPS)
    _, [first, second] = client.predict("a photo of <ada> in the snow", 2, 4, 0, 7, api_name="/draw")
    saved = {path.read_bytes() for path in studio.out.glob("*/*-a-photo-of-ada-in-the-snow-*.png")}
    assert {Path(picture["image"]).read_bytes() for picture in (first, second)} == saved
    with Image.open(second["image"]) as picture:
        facts = picture.info
    assert (facts["prompt"], facts["seed"], facts["model"]) == ("a photo of <ada> in the snow", "8", "miniature")
    assert "trainedAlgorithmicMedia" in facts["XML:com.adobe.xmp"]


def test_people_can_be_made_up_mixed_and_carried_away(visitor, address, tmp_path):
    eve, bo = visitor("sample", "eve", 3), visitor("sample", "bo", 4)
    cy = visitor("blend", "<eve>", "<bo>", 0.25, "cy")
    between = Identity.load(eve).vectors.lerp(Identity.load(bo).vectors, 0.25)
    assert Identity.load(cy).vectors.equal(between)
    _, row = visitor("row", "<eve>", "<bo>")
    assert [picture["caption"].split()[0] for picture in row] == ["0%", "25%", "50%", "75%", "100%"]
    portraits, files = visitor("people")
    assert [portrait["caption"] for portrait in portraits] == ["<eve>", "<bo>", "<cy>"]
    assert [Path(file).name for file in files] == ["eve.safetensors", "bo.safetensors", "cy.safetensors"]
    _, [pair] = visitor("draw", "a photo of <eve> and <bo> on the beach", 1, 2, None, 0)
    assert Image.open(pair["image"]).size == (SIZE, SIZE)

    other = Client(address, verbose=False)
    assert other.predict(api_name="/people") == ([], [])
    other.predict(handle_file(cy), "zoe", api_name="/load")
    [portrait], _ = other.predict(api_name="/people")
    assert portrait["caption"] == "<zoe>"


def test_sliders_give_invented_people_more_of_a_trait(visitor, studio):
    plain = Identity.load(visitor("sample", "eve", 3))
    moved = Identity.load(visitor("sample", "bo", 3, 0, 1.5))
    trait = studio.first.directions.traits[1]
    assert moved.provenance["more"] == f"{trait}=1.5" and "more" not in plain.provenance
    expected = plain.moved(studio.first.directions.of(studio.first.basis, trait), 1.5)
    assert moved.vectors.equal(expected.vectors)


def test_people_are_renamed_and_removed(visitor):
    eve = Identity.load(visitor("sample", "eve", 3))
    visitor("sample", "bo", 4)
    renamed = visitor("rename", "<eve>", "Zoë Łuk")
    assert Identity.load(renamed).placeholder_token == "<zoe-luk>" and Identity.load(renamed).digest == eve.digest
    assert [each["caption"] for each in visitor("people")[0]] == ["<bo>", "<zoe-luk>"]
    with pytest.raises(AppError, match="there is a &lt;bo&gt; already"):
        visitor("rename", "<zoe-luk>", "bo")
    visitor("remove", "<bo>")
    portraits, files = visitor("people")
    assert [each["caption"] for each in portraits] == ["<zoe-luk>"] and len(files) == 1
    for call in (("rename", "<eve>", "ada"), ("remove", "<bo>"), ("remove", None)):
        with pytest.raises(AppError, match="choose one of your people first"):
            visitor(*call)
    visitor("sample", "eve", 5)  # the name is free again


def test_likeness_stands_under_pictures_of_people_with_a_photo(visitor, photo, studio):
    fit(visitor, photo, "ada")
    visitor("sample", "eve", 3)
    _, [alone] = visitor("draw", "a close up photo of <ada> in a studio", 1, 8, 0, 0)
    _, [both] = visitor("draw", "a photo of <eve>", 1, 2, 0, 0)
    likeness = studio.first.likeness(Image.open(alone["image"]), {"ada": photo})["ada"]
    assert alone["caption"] == f"seed 0, likeness {likeness:.2f}" and both["caption"] == "seed 0"
    assert Image.open(alone["image"]).info["likeness"] == f"<ada>={likeness:.3f}"


def test_a_visitor_who_comes_back_finds_what_is_theirs(studio):
    first, other = Session(studio), Session(studio)
    eve = first.sample("eve", 3)
    [drawn] = first.draw("a photo of <eve>", 1, 2, None, 7)
    (first.folder / "broken.safetensors").write_bytes(b"nothing")
    ticket = first.resume(None)
    again = Session(studio)
    assert again.resume(ticket) == ticket
    assert again.people["<eve>"].identity.digest == eve.identity.digest and list(again.people) == ["<eve>"]
    assert again.people["<eve>"].portrait == eve.portrait and again.history == [drawn.file]
    assert (again.settings().prompt, again.settings().seed) == ("a photo of <eve>", 7)
    [later] = again.draw("a photo of <eve>", 1, 2, None, 8)
    assert again.history == [later.file, drawn.file]
    for wrong in ("", "..", "../x", str(other.folder), f"{ticket}/..", "2026-01-01-000000-0123456789abcdef", "x" * 999):
        stranger = Session(studio)
        assert stranger.resume(wrong) != ticket and not stranger.people and not stranger.history
    assert not other.people


def test_a_folder_stays_while_its_visitor_is_here(tmp_path):
    studio = Studio(tmp_path, keep=False)
    before = Session(studio)
    before.sample("eve", 3)
    after = Session(studio)
    after.resume(before.resume(None))
    before.end()
    assert after.people["<eve>"].file.exists() and studio.has_file(str(after.people["<eve>"].file))
    after.end()
    assert not list(tmp_path.iterdir())


def test_the_models_of_this_machine_are_listed_with_their_sizes(studio, tmp_path, monkeypatch):
    make_pipeline("sd1").save_pretrained(tmp_path / "tiny")
    celeb_basis.Model.load(tmp_path / "tiny")
    size = sum(file.stat().st_size for file in (tmp_path / "tiny").rglob("*") if file.is_file())
    shown = dict((name, label) for label, name in studio.models_here())
    assert shown[str(tmp_path / "tiny")] == f"{tmp_path / 'tiny'} ({size / 1e6:.0f} MB)"
    assert next(iter(shown)) == "miniature"
    some = Studio.__new__(Studio)
    some.models = ("miniature", "owner/model")
    assert [name for _, name in some.models_here()] == ["miniature", "owner/model"]


def test_names_are_taken_as_people_write_them(visitor, photo):
    line, _, file = fit(visitor, photo, " Zoë Łuk ")
    assert unescape(line).count("<zoe-luk>") == 2 and "Prompts write Zoë Łuk as <zoe-luk>." in unescape(line)
    assert Identity.load(file).placeholder_token == "<zoe-luk>"
    assert Path(visitor("sample", "Annika", 3)).name == "annika.safetensors"
    line, _, _ = fit(visitor, photo, "bo")
    assert "Prompts write" not in line


def test_a_person_may_have_several_photos(visitor, tmp_path, studio):
    photos = [tmp_path / f"{i}.png" for i in range(3)]
    for i, file in enumerate(photos):
        miniature.person(4321, 256 + 128 * i).save(file)
    _, _, learnt = fit(visitor, photos[0], "ada", 0, photos[1:])
    expected = studio.first.fit(photos, "ada", max_train_steps=0)
    assert Identity.load(learnt).vectors.equal(expected.vectors)
    assert not Identity.load(fit(visitor, photos[0], "bo")[2]).vectors.equal(expected.vectors)


def test_a_prompt_that_names_nobody_says_so(visitor):
    missing = "None of your people is in them"
    assert missing not in visitor("draw", "a photo of the beach", 1, 2, None, 0)[0]
    visitor("sample", "eve", 0)
    line, pictures = visitor("draw", "a photo of the beach", 1, 2, None, 0)
    assert missing in line and "write <eve> for a person" in unescape(line) and len(pictures) == 1
    assert missing not in visitor("draw", "a photo of <EVE> on the beach", 1, 2, None, 0)[0]
    assert missing in visitor("draw", "a photo of an evening", 1, 2, None, 0)[0]


def test_a_negative_prompt_is_that_of_the_library(visitor, studio):
    file = visitor("draw", "a photo of the beach", 1, 2, None, 0, False, 1, "snow")[1][0]["image"]
    [same] = generate(studio.first.pipe, "a photo of the beach", num_inference_steps=2, negative_prompt="snow")
    with Image.open(file) as picture:
        assert picture.convert("RGB").tobytes() == same.tobytes()


@pytest.mark.parametrize("guidance", [0, 1, None])
def test_guidance_is_what_the_visitor_says(guidance, visitor, studio):
    """Zero is a number; nothing is the model's own."""
    prompt = "a photo of the beach"
    file = visitor("draw", prompt, 1, 2, guidance, 0)[1][0]["image"]
    [same] = generate(studio.first.pipe, prompt, num_inference_steps=2, guidance_scale=guidance)
    with Image.open(file) as picture:
        assert picture.text["guidance"] == same.info["guidance"]
        assert picture.convert("RGB").tobytes() == same.tobytes()


def test_strength_is_that_of_the_library(visitor, studio):
    annika = Identity.load(visitor("sample", "annika", 3))
    prompt = "a photo of <annika> in the snow"
    file = visitor("draw", prompt, 1, 2, None, 0, False, 0.5)[1][0]["image"]
    half = annika.scaled(studio.first.basis, 0.5)
    [same] = generate(studio.first.pipe, prompt, [half], num_inference_steps=2)
    with Image.open(file) as picture:
        assert picture.convert("RGB").tobytes() == same.tobytes()


def test_progress_tells_the_likeness_of_milestones(studio, photo, monkeypatch):
    pipe = studio.first.pipe
    monkeypatch.setattr(pipe, "card", replace(pipe.card, num_milestones=2))
    steps = list(Session(studio).fit(str(photo), "ada", studio.first.default_train_steps))
    told = {at.step: at.likeness for at in steps}
    assert told[19] is None and 0.3 < told[20] == told[39] and 0.3 < told[40]
    assert steps[-1].person.identity.provenance["kept_step"] in ("20", "40")


def test_people_are_told_by_what_other_programs_call_them(studio):
    session = Session(studio)
    session.sample("annika", 3)
    session.sample("me2", 4)
    typed = session.in_programs()
    assert typed["<annika>"]["ComfyUI"] == "embedding:annika" and "Note" not in typed["<annika>"]
    assert "stable-diffusion.cpp" in typed["<me2>"]["Note"]


def test_people_are_kept_apart_as_by_the_library(visitor, studio):
    people = [Identity.load(visitor("sample", name, seed)) for name, seed in (("eve", 3), ("bo", 4))]
    prompt = "a photo of <eve> on the right and <bo> on the left"
    drawn = {apart: visitor("draw", prompt, 1, 2, None, 0, apart)[1][0]["image"] for apart in (False, True)}
    for apart, file in drawn.items():
        regions = "auto" if apart else None
        [expected] = generate(studio.first.pipe, prompt, people, num_inference_steps=2, seed=0, regions=regions)
        with Image.open(file) as picture:
            assert picture.tobytes() == expected.tobytes()
    assert Path(drawn[True]).read_bytes() != Path(drawn[False]).read_bytes()


def test_people_stand_in_the_boxes_that_are_drawn(visitor, studio):
    people = [Identity.load(visitor("sample", name, seed)) for name, seed in (("eve", 3), ("bo", 4))]
    prompt, boxes = "a photo of <eve> and <bo>", {"<bo>": (0.0, 0.1, 0.5, 1.0), "<eve>": (0.5, 0.0, 1.0, 0.9)}
    text = "bo=0,.1,.5,1\n<eve>=.5,0,1,.9\n\n<cy>=0,0,1,1"
    file = visitor("draw", prompt, 1, 2, None, 0, False, 1, "", text)[1][0]["image"]
    [expected] = generate(studio.first.pipe, prompt, people, num_inference_steps=2, regions=boxes)
    with Image.open(file) as picture:
        assert picture.tobytes() == expected.tobytes()
    for wrong, said in (("<eve>", "is no box"), ("<eve>=0,0,0,1", "the region of"), ("a=0,0,1,1\n" * 2, None)):
        if said:
            with pytest.raises(AppError, match=said):
                visitor("draw", prompt, 1, 2, None, 0, False, 1, "", wrong)
    assert read_boxes(written(boxes)) == boxes
    with pytest.raises(PromptError, match="16 boxes"):
        read_boxes("\n".join(f"{i}=0,0,1,1" for i in range(17)))


def test_width_and_height_are_what_the_visitor_says(visitor):
    file = visitor("draw", "a photo of the beach", 1, 2, None, 0, False, 1, "", "", 64, 96)[1][0]["image"]
    assert Image.open(file).size == (64, 96)


@pytest.fixture(scope="module")
def wrong(tmp_path_factory, photo):
    """Files that a visitor may choose by mistake."""
    folder = tmp_path_factory.mktemp("wrong")
    Image.new("RGB", (64, 64), "white").save(folder / "wall.png")
    (folder / "letter.jpg").write_text("Dear Ada")
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")
    pair = Image.new("RGB", (1024, 512))
    for i in range(2):
        pair.paste(miniature.person(4321 + i), (512 * i, 0))
    pair.save(folder / "pair.png")
    tiny = make_pipeline("sd1")
    tiny.save_pretrained(folder / "tiny")
    basis = CelebBasis.from_pipeline(tiny, NAMES)
    basis.save(folder / "basis.safetensors")
    Identity.sample(basis, "<tom>").save(folder / "tom.safetensors")
    return folder


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("wall.png", "wall.png: no face found"),
        ("letter.jpg", "letter.jpg is not a picture that can be read"),
        ("phone.heic", "phone.heic is damaged or cut short"),
        ("huge.png", "huge.png has more than 178 megapixels"),
        ("basis.safetensors", "basis.safetensors is not a picture"),
    ],
)
def test_a_wrong_photo_is_one_line(file, message, visitor, wrong):
    for call in (
        lambda: visitor("find_face", handle_file(wrong / file)),
        lambda: visitor("fit", handle_file(wrong / file), "ada", 0, None),
    ):
        with pytest.raises(AppError) as error:
            call()
        assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_of_several_faces_the_one_that_is_chosen(visitor, wrong, studio):
    pair = wrong / "pair.png"
    crops, which, said = visitor("find_face", handle_file(pair))
    assert len(crops) == 2 and which is None and "2 faces were found: click the person" in said
    faces = studio.first.face_reader.read([Image.open(pair)])[0]
    for number, name in ((1, "ada"), (2, "bo")):
        learnt = Identity.load(visitor("fit", handle_file(pair), name, 0, number)[2])
        assert learnt.vectors.equal(studio.first.fit([faces[number - 1]], name, max_train_steps=0).vectors)
    with pytest.raises(AppError, match="2 faces were found: click the person, or cut"):
        fit(visitor, pair, "cy")
    with pytest.raises(AppError, match="there is no face 3 in this photo"):
        visitor("fit", handle_file(pair), "cy", 0, 3)


def test_examples_suit_the_model(studio, tmp_path, wrong):
    drawn = studio.examples(studio.first)
    assert len(drawn) > 3 and all(len(faces) == 1 for faces in studio.first.face_reader.read(drawn))
    make_pipeline("sd1").save_pretrained(tmp_path / "tiny")
    model = studio.load(str(tmp_path / "tiny"), str(wrong / "basis.safetensors"))
    assert studio.examples(model) == []
    (tmp_path / "tiny" / "examples").mkdir()
    miniature.person(7, 64).save(tmp_path / "tiny" / "examples" / "one.png")
    (tmp_path / "tiny" / "examples" / "notes.txt").write_text("not a photograph")
    own = Studio.__new__(Studio)
    own._examples = {}
    assert [photo.size for photo in own.examples(model)] == [(64, 64)]


@pytest.mark.parametrize(
    ("call", "args", "message"),
    [
        ("sample", ("Eve", 1), "there is a <eve> already"),
        ("sample", ("a" * 20_000, 0), "'<aaaa"),
        ("blend", (None, None, 0.5, "cy"), "choose two different people"),
        ("sample", (" ", 0), "name the person first"),
        ("sample", ("eve", 1), "there is a <eve> already"),
        ("draw", ("a photo of <tom>", 1, 0, 0, 0), "nobody called <tom> was given"),
        ("draw", ("", 1, 0, 0, 0), "write what the pictures should show"),
        ("draw", ("a photo", 1, 2000, 0, 0), "2000 steps: this model takes 1 to 1000"),
        ("row", ("<eve>", "<eve>"), "choose two different people"),
        ("load", (None, "ada"), "choose an identity file first"),
        ("draw", ("a photo of Eve on the beach", 1, 2, 0, 0), "write <eve> where the person should stand"),
        ("model", ("/nowhere/at/all", None, None), "no model '/nowhere/at/all'"),
    ],
)
def test_wrong_input_is_one_line(call, args, message, visitor):
    visitor("sample", "eve", 0)
    with pytest.raises(AppError) as error:
        visitor(call, *args)
    assert unescape(str(error.value)).startswith(message) and "\n" not in str(error.value)


def test_a_fit_without_a_photo_is_one_line(visitor):
    with pytest.raises(AppError, match="add a photo first"):
        visitor("fit", None, "ada", 0, None)


def test_files_of_another_model_are_refused(visitor, wrong):
    with pytest.raises(AppError, match="this basis was made for tiny sd1 and does not fit miniature"):
        visitor("model", "miniature", handle_file(wrong / "basis.safetensors"), None)
    with pytest.raises(AppError, match="&lt;tom&gt; was made for tiny sd1"):
        visitor("load", handle_file(wrong / "tom.safetensors"), "")


def test_another_model_says_what_is_missing(visitor, wrong, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(AppError, match="names are two tokens in this model: at least 3 are needed"):
        visitor("model", str(wrong / "tiny"), None, None)
    line, basis = visitor("model", str(wrong / "tiny"), handle_file(wrong / "basis.safetensors"), None)
    assert "no instant map" in line
    assert CelebBasis.load(basis).names == CelebBasis.load(wrong / "basis.safetensors").names
    _, [picture] = visitor("draw", "a photo of the beach", 1, 2, None, 0)
    assert Image.open(picture["image"]).info["model"] == "tiny"


def test_cancel_stops_the_work_and_leaves_the_model_as_it_was(visitor, address, photo, studio, unet_calls):
    before = state_of(studio.first.pipe)
    client = Client(address, verbose=False)
    job = client.submit(handle_file(photo), "ada", 400, None, api_name="/fit")
    assert "Step 0" in next(iter(job))[0]
    job.cancel()
    assert silence_libraries(studio, unet_calls)
    assert state_of(studio.first.pipe) == before
    assert client.predict(api_name="/people") == ([], [])
    fit(visitor, photo, "ada")


def test_a_second_visitor_waits_for_the_first(visitor, address, photo):
    first, second = Client(address, verbose=False), Client(address, verbose=False)
    running = first.submit(handle_file(photo), "ada", 400, None, api_name="/fit")
    next(iter(running))
    waiting = second.submit("a photo of a person", 1, 2, 0, 0, api_name="/draw")
    assert visitor("sample", "eve", 0)  # small things need not wait
    assert not waiting.done() and waiting.outputs() == []
    running.cancel()
    assert len(waiting.result()[1]) == 1


def test_only_this_pages_files_are_served(address, studio, visitor):
    eve = Path(visitor("sample", "eve", 0))
    mine = next(path for path in studio.out.glob("*/eve.safetensors") if path.read_bytes() == eve.read_bytes())
    (studio.out / "diary.txt").write_text("mine")
    for path in ("/etc/passwd", studio.out / "diary.txt", celeb_basis.__file__, f"{mine.parent}/../diary.txt"):
        assert httpx.get(f"{address}gradio_api/file={path}").status_code == 403, path
    assert httpx.get(f"{address}gradio_api/file={mine}").content == eve.read_bytes()


def test_uploads_are_limited_in_size(address):
    answer = httpx.post(f"{address}gradio_api/upload", files={"files": bytes(65 * 2**20)})
    assert answer.status_code == 413


def test_a_password_is_asked_for(studio):
    with serve(studio, password="sesam") as address:
        with pytest.raises(AuthenticationError):
            Client(address, verbose=False)
        with pytest.raises(ValueError, match="Could not login"):
            Client(address, verbose=False, auth=("ada", "simsala"))
        client = Client(address, verbose=False, auth=("ada", "sesam"))
        assert client.predict(api_name="/people") == ([], [])


def test_where_nothing_can_be_written_it_says_so(studio, tmp_path):
    session = Session(studio)
    session.folder = tmp_path / "file" / "folder"
    session.folder.parent.write_text("in the way")
    with pytest.raises(OutputError, match="cannot make the folder"):
        session.sample("eve", 0)


# On the command line


def test_without_gradio_the_install_line_is_said():
    code = "import sys; sys.modules['gradio'] = None; from celeb_basis.cli import main; sys.exit(main(['web']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr
        == "celeb-basis: error: the page needs Gradio: pip install -e '.[web]' in the folder of celeb-basis\n"
    )


def test_letting_others_in_needs_a_password(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("CELEB_BASIS_PASSWORD", raising=False)
    assert main(["web", "--host", "0.0.0.0", "-o", str(tmp_path)]) == 2
    assert "set a password in CELEB_BASIS_PASSWORD" in capsys.readouterr().err


def test_a_taken_port_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OutputError, match=f"the page cannot listen on port {port} of 127.0.0.1 .*already in use"):
            with _listening(None, "127.0.0.1", port):
                pass


@pytest.mark.parametrize(
    ("options", "models", "keep"),
    [([], None, True), (["--domain", "faces.example"], ["miniature", "portraits"], False)],
)
def test_a_page_that_others_reach_through_a_proxy_keeps_nothing_and_offers_what_is_named(
    options, models, keep, monkeypatch, tmp_path
):
    seen = []
    monkeypatch.setattr("celeb_basis.web.serve", lambda studio, **_: seen.append(studio) or sys.exit(0))
    with pytest.raises(SystemExit):
        main(["web", "-o", str(tmp_path), *options])
    [studio] = seen
    assert (studio.models and list(studio.models), studio.keep) == (models, keep)


def harm_the_page(address):
    """Load an embedding whose name has a million letters, and name an endless file as a photo."""
    header = json.dumps({"a" * 10**6: {"dtype": "F32", "shape": [3, 3, 3], "data_offsets": [0, 108]}}).encode()
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(struct.pack("<Q", len(header)) + header + bytes(108))
        file.flush()
        client = Client(address, verbose=False)
        with pytest.raises(AppError, match="is not an identity"):
            client.predict(handle_file(file.name), "ada", api_name="/load")
    client.close()
    functions = httpx.get(f"{address}config").json()["dependencies"]
    [find_face] = [each["id"] for each in functions if each["api_name"] == "find_face"]
    data = [{"path": "/dev/zero", "meta": {"_type": "gradio.FileData"}}, None]
    call = {"fn_index": find_face, "data": data, "session_hash": "endless"}
    assert httpx.post(f"{address}gradio_api/queue/join", json=call).status_code == 422


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_stopped(stop, tmp_path):
    command = [sys.executable, "-m", "celeb_basis", "web", "--json", "-o", str(tmp_path)]
    proxies = {"ALL_PROXY": "socks5://127.0.0.1:9", "https_proxy": "nonsense", "no_proxy": "127.0.0.1"}
    env = os.environ | proxies | {"OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    # A shell starts what runs in its background deaf to Ctrl-C, which a command would inherit.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        address = json.loads(process.stdout.readline())["address"]
        assert re.match(r"http://127\.0\.0\.1:\d+/", address)
        assert httpx.get(address).status_code == 200
        with httpx.stream("GET", f"{address}gradio_api/heartbeat/s", timeout=30) as waiting:
            assert waiting.status_code == 200
            harm_the_page(address)
            assert httpx.get(address, timeout=5).status_code == 200
            process.send_signal(stop)
            _, complaint = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 128 + stop and complaint == "celeb-basis: stopped\n"


# In a browser


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The page as a visitor sees it; what it should not do is asserted at the end."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(30_000)
    wrong = []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda to: None if to.url.startswith((address, "data:", "blob:")) else wrong.append(to.url))
    page.goto(address)
    page.get_by_role("tab", name="Learn").wait_for()
    yield page
    page.close()
    assert wrong == []


def start_a_fit(page, photo, name, steps=None):
    page.locator("input[type=file]").first.set_input_files(photo)
    page.get_by_text("Found the face").wait_for()
    page.get_by_label("Name").first.fill(name)
    if steps is not None:
        page.get_by_role("spinbutton", name="Steps").first.fill(str(steps))
    page.get_by_role("button", name="Fit", exact=True).click()
    page.get_by_text("instant", exact=True).wait_for()


def test_a_visitor_goes_from_photo_to_picture(page, photo, studio, tmp_path):
    start_a_fit(page, photo, "ada")
    page.get_by_text("<ada> can be named in prompts now").wait_for()
    with page.expect_download() as identity:
        page.get_by_role("button", name="Download identity").click()
    identity.value.save_as(tmp_path / "ada.safetensors")
    learnt = Identity.load(tmp_path / "ada.safetensors")
    assert learnt.placeholder_token == "<ada>"
    assert learnt.provenance["steps"] == str(studio.first.default_train_steps)

    page.get_by_role("tab", name="Draw").click()
    prompt = page.get_by_role("textbox", name="Prompt")
    prompt.fill("a photo of")
    page.get_by_role("button", name="<ada>").click()
    page.get_by_role("button", name="in the snow with a crown").click()
    assert prompt.input_value() == "a photo of <ada> in the snow with a crown"
    page.get_by_role("button", name="Draw", exact=True).click()
    page.get_by_text("2 of 2 pictures").wait_for()
    page.locator(".pictures img").locator("visible=true").first.click()
    with page.expect_download() as picture:
        page.get_by_role("button", name="Download", exact=True).locator("visible=true").click()
    picture.value.save_as(tmp_path / "picture.png")
    name = picture.value.suggested_filename
    [saved] = [
        path for path in studio.out.glob(f"*/{name}") if path.read_bytes() == (tmp_path / "picture.png").read_bytes()
    ]
    assert Image.open(saved).info["prompt"] == "a photo of <ada> in the snow with a crown"


def test_every_drawing_in_a_browser_has_a_new_seed_unless_it_is_kept(page):
    page.get_by_role("tab", name="Draw").click()
    page.get_by_role("textbox", name="Prompt", exact=True).fill("a photo of the beach")
    seeds = []
    for keep in (False, False, True, True):
        page.get_by_label("Keep this seed").set_checked(keep)
        page.get_by_role("button", name="Draw", exact=True).click()
        page.get_by_text("Starting when no other job is running").wait_for(state="hidden")
        page.get_by_text("2 of 2 pictures").wait_for()
        seeds.append(page.get_by_label("Seed", exact=True).locator("visible=true").input_value())
        page.get_by_text(f"seed {seeds[-1]}").wait_for()
    assert seeds[0] != seeds[1] == seeds[2] == seeds[3]


def test_a_visitor_stops_a_fit(page, photo, studio, unet_calls):
    start_a_fit(page, photo, "ada", 400)
    page.get_by_text("left").wait_for()
    page.get_by_role("button", name="Cancel").locator("visible=true").click()
    page.get_by_text("Stopped").wait_for()
    assert silence_libraries(studio, unet_calls)
    page.get_by_role("spinbutton", name="Steps").first.fill("0")
    page.get_by_role("button", name="Fit", exact=True).click()
    page.get_by_text("<ada> can be named in prompts now").wait_for()


def test_a_visitor_is_told_what_is_wrong(page, wrong):
    page.locator("input[type=file]").first.set_input_files(wrong / "wall.png")
    page.get_by_text("wall.png: no face found").wait_for()
    page.get_by_role("button", name="Remove Image").or_(page.get_by_label("Clear")).first.click()
    page.locator(".tiny img").nth(2).click()
    page.get_by_text("Found the face").wait_for()
    page.get_by_role("button", name="Fit", exact=True).click()
    page.get_by_text("name the person first").wait_for()
    from playwright.sync_api import expect

    expect(page.get_by_role("button", name="Cancel").locator("visible=true")).to_be_disabled()


def test_a_visitor_puts_two_people_in_one_picture(page):
    page.get_by_role("tab", name="People").click()
    page.get_by_role("button", name="Both in one picture").click()
    page.get_by_text("choose two different people first").wait_for()
    for name in ("eve", "bo"):
        page.get_by_label("Name").locator("visible=true").first.fill(name)
        page.get_by_role("button", name="Make them up").click()
        page.get_by_text(f"<{name}>").locator("visible=true").first.wait_for()
    page.get_by_role("button", name="Both in one picture").click()
    prompt = page.get_by_role("textbox", name="Prompt")
    prompt.wait_for()
    assert prompt.input_value() == "a photo of <eve> and <bo> on the beach"


def test_steps_follow_the_start_that_the_chosen_model_has(page, wrong, studio):
    from playwright.sync_api import expect

    steps = page.get_by_role("spinbutton", name="Steps").first
    expect(steps).to_have_value(str(studio.first.default_train_steps))
    page.get_by_role("tab", name="Model").click()
    use = page.get_by_role("button", name="Use this model")
    use.wait_for()
    page.get_by_label("Model", exact=True).fill(str(wrong / "tiny"))
    page.get_by_label("Model", exact=True).press("Enter")
    with page.expect_file_chooser() as choosing:
        # The tab before may still be seen for a moment, and has an upload of its own.
        page.get_by_role("tabpanel").filter(has=use).get_by_text("Click to Upload").first.click()
    choosing.value.set_files(wrong / "basis.safetensors")
    page.get_by_label("basis.safetensors").wait_for()
    use.click()
    page.get_by_text("no instant map").wait_for()
    page.get_by_role("tab", name="Learn").click()
    expect(steps).to_have_value(str(DEFAULTS["celeb-basis"].max_train_steps))


def test_a_reload_loses_nothing_and_a_picture_is_set_up_again(page):
    page.get_by_role("tab", name="People").click()
    page.get_by_label("Name").locator("visible=true").first.fill("eve")
    page.get_by_role("button", name="Make them up").click()
    page.get_by_text("<eve>").locator("visible=true").first.wait_for()
    page.get_by_role("tab", name="Draw").click()
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)
    for text in ("a photo of <eve>", "a pencil sketch of <eve>"):
        prompt.fill(text)
        page.get_by_role("button", name="Draw", exact=True).click()
        page.get_by_text("Starting when no other job is running").wait_for(state="hidden")
        page.get_by_text("2 of 2 pictures").wait_for()
    seed = page.get_by_label("Seed", exact=True).locator("visible=true")
    last = seed.input_value()
    page.reload()
    page.get_by_role("tab", name="Draw").click()
    page.get_by_role("button", name="<eve>").wait_for()
    page.get_by_role("button", name="History").click()
    pictures = page.locator(".small img").locator("visible=true")
    pictures.nth(3).wait_for()
    pictures.nth(1).click()  # the first of the last two
    page.get_by_role("button", name="Again with the settings").click()
    from playwright.sync_api import expect

    expect(prompt).to_have_value("a pencil sketch of <eve>")
    expect(seed).to_have_value(last)
    pictures.nth(3).click()
    page.get_by_role("button", name="Again with the settings").click()
    expect(prompt).to_have_value("a photo of <eve>")


def test_a_visitor_clicks_the_person_in_a_group(page, wrong, studio):
    page.locator("input[type=file]").first.set_input_files(wrong / "pair.png")
    page.get_by_text("2 faces were found").wait_for()
    page.locator(".faces img").locator("visible=true").nth(1).click()
    page.get_by_text("Face 2 of 2").wait_for()
    photo = page.locator(".photo img")
    size = photo.bounding_box()
    left = studio.first.face_reader.read([Image.open(wrong / "pair.png")])[0][0].box[0] < 512
    photo.click(position={"x": size["width"] * (0.25 if left else 0.75), "y": size["height"] / 2})
    page.get_by_text("Face 1 of 2").wait_for()
    page.get_by_label("Name").first.fill("Zoë Łuk")
    page.get_by_role("spinbutton", name="Steps").first.fill("0")
    page.get_by_role("button", name="Fit", exact=True).click()
    page.get_by_text("<zoe-luk> can be named in prompts now. Prompts write Zoë Łuk as <zoe-luk>.").wait_for()


def test_a_visitor_draws_boxes_by_their_corners(page):
    from playwright.sync_api import expect

    page.get_by_role("tab", name="People").click()
    for name in ("eve", "bo"):
        page.get_by_label("Name").locator("visible=true").first.fill(name)
        page.get_by_role("button", name="Make them up").click()
        page.get_by_text(f"<{name}>").locator("visible=true").first.wait_for()
    page.get_by_role("tab", name="Draw").click()
    page.get_by_role("button", name="Where people stand").click()
    preview = page.locator(".how img").locator("visible=true").first
    for corners in (((0.04, 0.1), (0.46, 0.9)), ((0.95, 0.9), (0.55, 0.1))):
        for (x, y), said in zip(corners, ("Now click the opposite corner", "Choose a person, then"), strict=True):
            size = preview.bounding_box()
            preview.click(position={"x": size["width"] * x, "y": size["height"] * y})
            page.get_by_text(said).wait_for()
    boxes = read_boxes(page.get_by_label("Boxes").input_value())
    assert list(boxes) == ["<eve>", "<bo>"] and boxes["<bo>"] == pytest.approx((0.55, 0.1, 0.95, 0.9), abs=0.03)
    page.get_by_role("button", name="Clear the boxes").click()
    expect(page.get_by_label("Boxes")).to_have_value("")


def test_results_are_seen_without_scrolling_on_a_phone(browser, address, photo):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(address)
    start_a_fit(page, photo, "ada", 0)
    assert page.locator(".five img").first.bounding_box()["y"] < 800
    page.get_by_text("<ada> can be named").wait_for()
    page.get_by_role("tab", name="Draw").click()
    page.get_by_role("textbox", name="Prompt", exact=True).fill("a photo of <ada>")
    page.get_by_role("button", name="Draw", exact=True).click()
    page.get_by_text("1 of 2 pictures").or_(page.get_by_text("2 of 2 pictures")).wait_for()
    picture = page.locator(".large img").first.bounding_box()
    assert picture["y"] + picture["height"] < 844
    page.close()


def test_the_page_fits_a_phone(browser, address):
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.goto(address)
    for tab in ("Learn", "Draw", "People", "Model"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
        for gradios in ("Use via API", "Settings", "Built with Gradio"):
            assert not page.get_by_text(gradios, exact=True).count()
    page.close()


def test_a_real_photo_brings_the_model_of_photographs_and_a_drawn_one_the_miniature(studio, tmp_path):
    real, drawn = str(PHOTOS / "obama__senate.jpg"), tmp_path / "drawn.png"
    miniature.person(7).save(drawn)
    session = Session(studio)
    assert len(session.find_faces(real)) == 1 and session.model.name == "portraits"
    assert len(session.find_faces(str(drawn))) == 1 and session.model.name == "miniature"
    session.find_faces(real)
    *_, last = session.fit(real, "barry", 1)
    assert last.person and last.person.identity.model == "portraits"
    [picture] = session.draw("a photo of <barry> on the beach", 1, 2, None, 3)
    assert picture.file.is_file()
    session.find_faces(str(drawn))  # who has people stays with their model, whose reader finds many drawn faces too
    assert session.model.name == "portraits"
    back = Session(studio)
    back.resume(session.folder.name)
    assert list(back.people) == ["<barry>"] and back.model.name == "portraits"


def test_a_page_of_chosen_models_uses_no_other(tmp_path):
    shared = Studio(tmp_path, models=[])
    assert shared.offers("portraits") and not shared.offers("somebody/else")
    alone = Studio(tmp_path, first=str(shutil.copytree(SHIPPED["miniature"], tmp_path / "copy")), models=[])
    assert not alone.offers("portraits")
    session = Session(alone)
    with pytest.raises(NoFaceError):
        session.find_faces(str(PHOTOS / "obama__senate.jpg"))


def test_the_page_says_which_model_took_over(page):
    from playwright.sync_api import expect

    expect(page.get_by_text("a small model of drawn people")).to_be_visible()
    with page.expect_file_chooser() as choosing:
        page.get_by_text("Click to Upload").locator("visible=true").first.click()
    choosing.value.set_files(PHOTOS / "obama__senate.jpg")
    page.get_by_text("Found the face").wait_for()
    expect(page.get_by_text("a small model of photographed people")).to_be_visible()

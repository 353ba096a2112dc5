"""The pack in a real ComfyUI server, from a photo to pictures.

Runs where COMFYUI_PATH names a checkout of ComfyUI, and COMFYUI_PYTHON an interpreter that has its requirements and
those of celeb-basis (by default the one that runs the tests).
"""

import io
import json
import os
import time
import urllib.request

import numpy as np
import pytest
import torch
from fits import fit_identity
from PIL import Image
from server import PACK, running

from celeb_basis import Identity, miniature
from celeb_basis.backend.load import load_pipeline
from celeb_basis.basis import CelebBasis
from celeb_basis.faces.face import find_face
from celeb_basis.generate import generate
from celeb_basis.instant_map import InstantMap
from celeb_basis.miniature.drawn.readers import evaluation_reader, fitting_reader

pytestmark = pytest.mark.skipif(
    "COMFYUI_PATH" not in os.environ, reason="COMFYUI_PATH names no checkout of ComfyUI to start a server from"
)
PERSON = 3001
PROMPTS = (
    "a photo of {} on the beach",
    "a photo of {} in the snow wearing a yellow jacket",
    "a close up photo of {} in a studio",
    "a photo of {}, smiling in the forest",
)


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def learning(steps, name="annika", seed=0, preview=False):
    """From a photo to an identity file."""
    return {
        "model": node("CelebBasisLoadMiniature"),
        "photo": node("CelebBasisStranger", seed=PERSON),
        "fit": node(
            "CelebBasisFitIdentity", model=["model", 0], clip=["model", 1], vae=["model", 2], image=["photo", 0],
            name=name, steps=steps, seed=seed, basis="made from this model", largest_face=False, preview=preview,
        ),
        "save": node("CelebBasisSaveIdentity", identity=["fit", 0], overwrite=True),
    }  # fmt: skip


def drawing(prompts, clip=("model", 1), seed=1):
    """Pictures of prompts, at nodes "out 0", "out 1" ..."""
    graph = {
        "model": node("CelebBasisLoadMiniature"),
        "negative": node("CLIPTextEncode", clip=["model", 1], text=""),
        "empty": node("EmptyLatentImage", width=128, height=128, batch_size=1),
    }
    for i, text in enumerate(prompts):
        graph |= {
            f"positive {i}": node("CLIPTextEncode", clip=list(clip), text=text),
            f"draw {i}": node(
                "KSampler", model=["model", 0], positive=[f"positive {i}", 0], negative=["negative", 0],
                latent_image=["empty", 0], seed=seed, steps=10, cfg=2.5, sampler_name="ddim", scheduler="sgm_uniform",
                denoise=1.0,
            ),
            f"decode {i}": node("VAEDecode", samples=[f"draw {i}", 0], vae=["model", 2]),
            f"out {i}": node("SaveImage", images=[f"decode {i}", 0], filename_prefix="test"),
        }  # fmt: skip
    return graph


def naming(identity):
    """A CLIP whose prompts know an identity, at node "clip"."""
    return {"clip": node("CelebBasisApplyIdentity", clip=["model", 1], identity=list(identity))}


def pixels(server, done):
    """What a graph drew of the prompts, as pictures and as an array."""
    outs = [f"out {i}" for i in range(len(PROMPTS)) if f"out {i}" in done["prompt"][2]]
    pictures = [Image.open(io.BytesIO(server.picture(done, out))).convert("RGB") for out in outs]
    return pictures, np.stack([np.array(picture) for picture in pictures])


def likeness(pictures):
    """Mean cosine of the pictures' largest faces with the person."""
    person = find_face(miniature.person(PERSON), evaluation_reader()).feature
    faces = evaluation_reader().read(pictures)
    return float(np.mean([found[0].feature @ person if found else 0.0 for found in faces]))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("comfyui") / "base") as started:
        yield started


@pytest.fixture(scope="module")
def annika(server):
    """The answer to a graph that learns a person in 40 steps and draws her by node."""
    texts = [prompt.format("<annika>") for prompt in PROMPTS]
    return server.run(learning(40) | naming(("fit", 0)) | drawing(texts, ("clip", 0)))


def test_from_photo_to_pictures_by_node_and_by_file(server, annika, record_property):
    pictures, by_node = pixels(server, annika)
    assert "annika.safetensors" in annika["outputs"]["save"]["text"][0]
    by_file = pixels(server, server.run(drawing([p.format("embedding:annika ") for p in PROMPTS])))[1]
    assert (by_node == by_file).all()
    texts = [prompt.format("<instant>") for prompt in PROMPTS]
    instant_map = server.run(learning(0, "instant") | naming(("fit", 0)) | drawing(texts, ("clip", 0)))
    reached = {"fitted": likeness(pictures), "instant": likeness(pixels(server, instant_map)[0])}
    for name, value in reached.items():
        record_property(name, value)
    pipe = load_pipeline("miniature", device="cpu")
    identity = Identity.load(server.folder / "models" / "embeddings" / "annika.safetensors")
    texts = [prompt.format("<annika>") for prompt in PROMPTS]
    library = likeness(generate(pipe, texts, [identity], num_images_per_prompt=4))
    record_property("drawn by the library", library)
    assert reached["fitted"] > reached["instant"] - 0.02
    assert abs(reached["fitted"] - library) < 0.1


def test_a_fit_is_that_of_the_library(server, annika, record_property):
    """The same person within what float32 rounds differently over 40 steps."""
    file = server.folder / "models" / "embeddings" / "annika.safetensors"
    theirs = Identity.load(file)
    pipe = load_pipeline("miniature", device="cpu")
    face = find_face(miniature.person(PERSON), fitting_reader())
    basis = CelebBasis.load(pipe.card.basis)
    instant_map = InstantMap.load(pipe.card.instant_map)
    ours = fit_identity(pipe, basis, [face], placeholder_token="<annika>", max_train_steps=40, instant_map=instant_map)
    far, near = instant_map.predict(face.feature), theirs.coefficients(basis) - ours.coefficients(basis)
    moved = ours.coefficients(basis) - far
    record_property("difference as a share of the fit's way", float(near.norm() / moved.norm()))
    assert theirs.fingerprint == ours.fingerprint == basis.fingerprint
    assert near.norm() < 0.05 * moved.norm()


def test_two_people_blended_and_loaded(server, annika):
    graph = {
        "tovik": node(
            "CelebBasisSampleIdentity", clip=["model", 1], name="tovik", seed=3, basis="made from this model"
        ),
        "annika": node("CelebBasisLoadIdentity", file="annika.safetensors"),
        "bodil": node("CelebBasisBlendIdentities", a=["annika", 0], b=["tovik", 0], weight=0.0, name="bodil"),
        "one": node("CelebBasisApplyIdentity", clip=["model", 1], identity=["tovik", 0]),
        "clip": node("CelebBasisApplyIdentity", clip=["one", 0], identity=["bodil", 0]),
    }
    texts = [prompt.format("<bodil>") for prompt in PROMPTS] + ["a photo of <Bodil> and <tovik>"]
    done = server.run(graph | drawing(texts, ("clip", 0)))
    # With none of the other in her, she is the first; and people do not mix up.
    assert (pixels(server, done)[1] == pixels(server, annika)[1]).all()


def test_only_what_changed_runs_again(server, annika):
    texts = [prompt.format("<annika>") for prompt in PROMPTS]
    graph = learning(5) | naming(("fit", 0)) | drawing(texts[:1], ("clip", 0))
    server.run(graph)
    assert server.ran(server.run(graph)) == {"save"}
    graph["fit"]["inputs"]["seed"] = 1
    ran = server.ran(server.run(graph))
    assert {"fit", "clip", "draw 0"} <= ran and not {"model", "photo", "negative"} & ran
    loading = {"load": node("CelebBasisLoadIdentity", file="annika.safetensors")} | naming(("load", 0))
    loading |= drawing(texts[:1], ("clip", 0))
    first = server.run(loading)
    assert server.ran(server.run(loading)) == set()
    server.run(learning(1))  # writes the file again
    again = server.run(loading)
    assert {"load", "clip", "draw 0"} <= server.ran(again)
    assert (pixels(server, first)[1] != pixels(server, again)[1]).any()


def progress(told):
    """The steps of a fit that a client was told, and of how many."""
    return [(data["value"], data["max"]) for kind, data in told if kind == "progress" and data["node"] == "fit"]


def test_a_fit_tells_its_progress_and_shows_the_person(server, annika):
    pytest.importorskip("aiohttp")
    with server.listening("page") as told:
        server.run(learning(12, "shown", preview=True), "page")
    steps = progress(told)
    assert steps == sorted(steps) and steps[-1] == (12, 12) and len(set(steps)) > 5
    shown = [Image.open(io.BytesIO(data)) for kind, data in told if kind == "picture"]
    assert len(shown) > 1
    assert {(picture.format, picture.size) for picture in shown} == {("JPEG", (512, 512))}  # as large as a page shows
    assert shown[0].tobytes() != shown[-1].tobytes()


def test_a_cancelled_fit_leaves_the_model_as_it_was(server, annika):
    pytest.importorskip("aiohttp")
    nobody = drawing(["a photo of a woman in the snow"])
    before = server.picture(server.run(nobody), "out 0")
    with server.listening("page") as told:
        job = server.submit(learning(2000, "endless", preview=True), "page")
        while len(progress(told)) < 3:
            assert job not in server.get("/history"), server.get(f"/history/{job}")
            time.sleep(0.1)
        server.post("/interrupt", {})
        done = server.wait(job)
    assert "execution_interrupted" in [kind for kind, _ in done["status"]["messages"]]
    assert not (server.folder / "models" / "embeddings" / "endless.safetensors").exists()
    again = server.run(nobody)
    ran = server.ran(again)
    assert "draw 0" in ran and "model" not in ran  # the very model that the fit worked with
    assert server.picture(again, "out 0") == before


def test_fits_in_the_queue_do_not_touch_one_another(server, annika):
    waiting = [server.submit(learning(3, name, seed)) for name, seed in (("una", 1), ("duo", 2), ("again", 1))]
    for job in waiting:
        assert server.wait(job)["status"]["status_str"] == "success"
    folder = server.folder / "models" / "embeddings"
    una, duo, again = (Identity.load(folder / f"{name}.safetensors").vectors for name in ("una", "duo", "again"))
    assert una.equal(again) and not una.equal(duo)


def test_mistakes_are_one_line(server, annika):
    done = server.wait(server.submit(learning(0, "Annika B.")))
    [error] = [facts for kind, facts in done["status"]["messages"] if kind == "execution_error"]
    assert error["node_id"] == "fit" and "cannot be a placeholder token" in error["exception_message"]
    assert error["exception_message"].strip().count("\n") == 0
    torch.manual_seed(0)
    Identity("<thing>", torch.randn(2, 6), (6,)).save(server.folder / "models" / "embeddings" / "thing.safetensors")
    other = {"load": node("CelebBasisLoadIdentity", file="thing.safetensors")} | naming(("load", 0))
    with pytest.raises(AssertionError, match="means nothing to"):
        server.run(other | drawing(["a photo of <thing>"], ("clip", 0)))


@pytest.mark.parametrize("file", sorted((PACK / "example_workflows").glob("*.json")), ids=lambda file: file.stem)
def test_the_example_workflows_name_nodes_that_exist(server, file):
    known = server.get("/object_info")
    for step in json.loads(file.read_text())["nodes"]:
        assert step["type"] in known, step["type"]


def test_the_interface_is_served(server):
    with urllib.request.urlopen(server.address, timeout=60) as page:
        assert b"<title>ComfyUI" in page.read()

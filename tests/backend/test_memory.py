"""Measures against little memory: which are taken for how many bytes, and that they change nothing."""

import architectures
import numpy as np
import pytest
import torch
import transformers_published
from conftest import NAMES, TEMPLATES, make_pipeline, state_of
from fits import fit_identity
from PIL import Image

from celeb_basis import CelebBasis, Face, ModelError
from celeb_basis.backend.families import get_denoiser
from celeb_basis.backend.memory import (
    CHECKPOINT,
    DRAWN,
    GIB,
    OFFLOAD,
    ONE_CAPTION,
    ONE_PICTURE,
    RESERVE,
    SLICE,
    TILES,
    drawn_at_once,
    measures,
    place,
    quantised_parts,
)
from celeb_basis.fit.methods import CelebBasisMethod
from celeb_basis.generate import generate

CPU = torch.device("cpu")


def published(kind):
    """A pipeline as large as the published one, in float16, whose weights have a shape and no memory."""
    try:
        return architectures.make_pipeline(kind, torch.float16, device="meta")
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("kind", "cards"),
    [
        ("sd1", {24: [], 6: [CHECKPOINT, SLICE], 4: [CHECKPOINT, SLICE], 2: [OFFLOAD, CHECKPOINT, SLICE]}),
        ("sd2", {24: [], 8: [CHECKPOINT, SLICE]}),
        ("sdxl", {64: [], 24: [CHECKPOINT, SLICE], 12: [CHECKPOINT, SLICE], 8: [OFFLOAD, CHECKPOINT, SLICE, TILES]}),
    ],
)
def test_the_published_sizes_on_usual_cards(kind, cards):
    """SD 1.5 in 6 GB and SDXL in 12, of which a desktop has taken 5%."""
    pipe = published(kind)
    for gigabytes, expected in cards.items():
        assert measures(pipe, int(0.95 * gigabytes * GIB) - RESERVE, gpu=True) == expected, gigabytes


@pytest.mark.parametrize(
    ("kind", "cards"),
    [
        ("sd3", {24: [], 12: [], 8: ["transformer"]}),
        ("klein", {24: [], 20: ["text_encoder"], 12: ["text_encoder", "transformer"]}),
        ("z-image", {32: [], 24: ["text_encoder"], 16: ["text_encoder", "transformer"]}),
        ("flux", {48: [], 24: ["text_encoder_2", "transformer"]}),
    ],
)
def test_transformers_in_four_bits_on_usual_cards(kind, cards):
    """The text encoder first, and only as much as a fit of one picture needs."""
    pipe = transformers_published.make_pipeline(kind, device="meta")
    sizes = {
        name: sum(weight.nbytes for weight in part.parameters())
        for name, part in pipe.components.items()
        if isinstance(part, torch.nn.Module)
    }
    for gigabytes, expected in cards.items():
        assert quantised_parts(sizes, int(0.95 * gigabytes * GIB) - RESERVE) == expected, gigabytes
    denoiser = get_denoiser(pipe)
    assert denoiser.caption_bytes <= ONE_CAPTION
    assert denoiser.activations_checkpointed * denoiser.feature_map <= ONE_PICTURE


def test_main_memory_has_nowhere_to_offload_to():
    assert OFFLOAD not in measures(published("sd1"), GIB, gpu=False)


def fit(pipe):
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    face = Face(Image.radial_gradient("L").convert("RGB"), (0, 0, 256, 256), torch.eye(4)[0])
    recipe = {"max_train_steps": 3, "num_train_images": 3, "templates": TEMPLATES, "scales": (1.0,)}
    return fit_identity(pipe, basis, [face], placeholder_token="<sks>", method=CelebBasisMethod(init="mean"), **recipe)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_little_memory_gives_the_same_person_and_picture(kind, caplog):
    caplog.set_level("INFO", "celeb_basis")
    pipe = make_pipeline(kind)
    place(pipe, CPU)
    person = fit(pipe)
    [picture] = generate(pipe, "a photo of <sks>", [person], num_inference_steps=2)
    assert not caplog.messages and not pipe.unet.is_gradient_checkpointing
    place(pipe, CPU, free=0)
    [said] = caplog.messages
    assert "gradient checkpointing, images encoded and decoded one by one" in said and "float32" in said
    assert pipe.unet.is_gradient_checkpointing and pipe.vae.use_slicing
    assert not pipe.vae.use_tiling  # its pictures are smaller than a tile
    before = state_of(pipe)
    again = fit(pipe)
    assert state_of(pipe) == before
    torch.testing.assert_close(again.vectors, person.vectors, rtol=1e-4, atol=1e-6)
    [same] = generate(pipe, "a photo of <sks>", [person], num_inference_steps=2)
    assert np.abs(np.asarray(same, dtype=int) - np.asarray(picture)).max() <= 1


def test_parts_that_take_turns_can_draw_and_not_fit():
    pipe = make_pipeline("sd1")
    person = fit(pipe)
    [picture] = generate(pipe, "a photo of <sks>", [person], num_inference_steps=2)
    pipe.enable_model_cpu_offload(device="cpu")
    [same] = generate(pipe, "a photo of <sks>", [person], num_inference_steps=2)
    assert same.tobytes() == picture.tobytes()
    with pytest.raises(ModelError, match="can draw but not be fitted to"):
        fit(pipe)


def test_pictures_drawn_at_once_follow_the_memory_that_is_free(monkeypatch):
    pipe = published("sd1")
    counts = []
    for gigabytes in (0.1, 1.5, 3, 500):
        monkeypatch.setattr("celeb_basis.backend.memory.free_bytes", lambda device, free=gigabytes: int(free * GIB))
        counts.append(drawn_at_once(pipe))
    assert counts[0] == 1 and counts == sorted(counts) and 1 < counts[1] < counts[2] < counts[3] == DRAWN
    pipe.vae.enable_slicing()  # decodes one by one, so that more pictures fit
    monkeypatch.setattr("celeb_basis.backend.memory.free_bytes", lambda device: int(1.5 * GIB))
    assert drawn_at_once(pipe) > counts[1]

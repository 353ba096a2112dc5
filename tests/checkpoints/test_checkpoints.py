"""The first commands on published checkpoints: each family's folder is loaded, set up, fitted to and drawn with."""

import json
import logging

import pytest
import torch
from conftest import NAMES
from PIL import Image
from published import CHECKPOINTS, SIDE, build

from celeb_basis import CelebBasis, Face, Model, PromptError
from celeb_basis.backend.defaults import drawing_defaults
from celeb_basis.backend.families import get_denoiser
from celeb_basis.backend.load import load_pipeline
from celeb_basis.faces.network import FaceNetwork
from celeb_basis.fit.face_loss import FaceLoss
from celeb_basis.fit.methods import CelebBasisMethod
from celeb_basis.generate import generate
from celeb_basis.known_names import find_known_names

# What makers say: steps and guidance. The others are drawn as their pipelines say.
DISTILLED = {
    "sd-turbo": (1, 0.0),
    "sdxl-turbo": (1, 0.0),
    "FLUX.1-schnell": (4, 0.0),
    "FLUX.2-klein-4B": (4, 1.0),
    "Z-Image-Turbo": (8, 0.0),
}


class Corners(torch.nn.Module):
    """The colours of a picture's corners, as bytes and one."""

    def forward(self, pictures):
        small = torch.nn.functional.interpolate(pictures, (2, 2), mode="bilinear", antialias=True)
        return (small * 127.5 + 128.5).permute(0, 2, 3, 1).flatten(1)


class Colours:
    """A reader that finds one face in every image, described by the colours of its corners."""

    name = "colours"
    network = FaceNetwork(Corners(), 32)

    def read(self, images):
        def face(image):
            pixels = torch.tensor(list(image.convert("RGB").resize((2, 2)).tobytes()), dtype=torch.float32)
            feature = torch.nn.functional.normalize(pixels + 1, dim=0)
            square = (0.25 * image.width, 0.25 * image.height, 0.5 * image.width, 0.0)
            return Face(image, (0, 0, *image.size), feature, self.name, square=square)

        return [[face(image)] for image in images]


@pytest.fixture(scope="module", params=CHECKPOINTS)
def model(request, tmp_path_factory):
    pipe = load_pipeline(build(request.param, tmp_path_factory.mktemp("hub")), device="cpu", dtype=torch.float32)
    return Model.from_pipeline(pipe, basis=CelebBasis.from_pipeline(pipe, NAMES), face_reader=Colours())


def evaluations(model, monkeypatch, call):
    """How often the network is called, and with how many images at once."""
    network = getattr(model.pipe, "unet", None) or model.pipe.transformer
    seen, forward = [], network.forward

    def counted(*args, **options):
        first = args[0] if args else options["hidden_states"]
        seen.append(len(first))
        return forward(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(network, "forward", counted)
        call()
    return seen


def checkpoint(model):
    return model.name.rsplit("/", 1)[-1]


def test_distilled_models_are_drawn_as_their_makers_say(model, monkeypatch):
    name = checkpoint(model)
    defaults = drawing_defaults(model.pipe)
    assert bool(defaults.reason) == (name in DISTILLED)
    if name not in DISTILLED:
        assert defaults.num_inference_steps in (28, 50) and defaults.guidance_scale >= 3.5
        return
    assert defaults[:2] == DISTILLED[name]
    seen = evaluations(model, monkeypatch, lambda: model.generate("a photo of the person"))
    assert len(seen) == defaults.num_inference_steps and set(seen) == {1}


def test_guidance_of_0_and_1_is_taken(model):
    for guidance in (0, 1):
        [image] = model.generate("a photo of the person", num_inference_steps=2, guidance_scale=guidance)
        assert image.size == (SIDE, SIDE)


def test_a_person_is_fitted_and_drawn(model):
    """And no weight changes."""
    before = [weight.clone() for weight in all_weights(model)]
    noise = torch.randint(256, (SIDE, SIDE, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    steps = []
    recipe = {"max_train_steps": 2, "num_train_images": 2, "train_batch_size": 1, "scales": (1.0,)}
    annika = model.fit(Image.fromarray(noise.numpy()), "zaza", progress=steps.append, **recipe)
    assert len(steps) == 3 and steps[-1].loss > 0 and not torch.equal(steps[0].vectors, steps[-1].vectors)
    plain, named = (
        model.generate(prompt, people, num_inference_steps=2)[0]
        for prompt, people in (("a photo of the person", []), ("a photo of <zaza>", [annika]))
    )
    assert plain.tobytes() != named.tobytes()
    assert all(torch.equal(a, b) for a, b in zip(before, all_weights(model), strict=True))


def test_the_face_loss_moves_a_person(model, monkeypatch):
    """And no weight changes; a distilled model is drawn in its own steps, others in four."""
    before = [weight.clone() for weight in all_weights(model)]
    photo, steps = Image.linear_gradient("L").resize((SIDE, SIDE)), []
    recipe = {"max_train_steps": 1, "num_train_images": 1, "train_batch_size": 1, "scales": (1.0,), "face_loss": True}
    recipe["scenes"] = ("a photo of {} on the beach",)
    seen = evaluations(
        model,
        monkeypatch,
        lambda: model.fit(photo, "zaza", method=CelebBasisMethod("mean"), progress=steps.append, **recipe),
    )
    assert [step.step for step in steps] == [0, 1, 2] and 0 < steps[2].loss < 2
    moved = (steps[2].coefficients - steps[1].coefficients).norm()
    assert moved > 0 and steps[2].vectors.isfinite().all()
    drawn = len(seen) - 2  # without the one of the denoising step and that with the gradient
    own = drawing_defaults(model.pipe).num_inference_steps if checkpoint(model) in DISTILLED else 4
    assert drawn in (FaceLoss.pictures * own, FaceLoss.pictures * (own - 1), 2 * FaceLoss.pictures * own)
    assert all(torch.equal(a, b) for a, b in zip(before, all_weights(model), strict=True))


def test_latents_are_scaled_there_and_back(model):
    denoiser = get_denoiser(model.pipe)
    latents = torch.randn(2, model.pipe.vae.config.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(denoiser._unscaled(denoiser._scaled(latents)), latents, atol=1e-4)
    pixels = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert denoiser.decode(denoiser.encode(pixels)).shape == pixels.shape


def test_a_picture_is_decoded_as_the_pipeline_does(model, monkeypatch):
    """From the latents that the pipeline's own decoder is given."""
    denoiser, vae = get_denoiser(model.pipe), model.pipe.vae
    given, decode = [], vae.decode

    def seen(latents, *args, **options):
        given.append(latents)
        return decode(latents, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(vae, "decode", seen)
        [image] = model.generate("a photo of the person", num_inference_steps=1)
    with torch.no_grad():
        ours = denoiser.decode(denoiser._scaled(given[0]))[0].clamp(-1, 1)
    pixels = torch.tensor(list(image.tobytes())).reshape(SIDE, SIDE, 3).permute(2, 0, 1)
    assert (((ours + 1) * 127.5).round() - pixels).abs().max() <= 1


def all_weights(model):
    parts = [part for part in model.pipe.components.values() if isinstance(part, torch.nn.Module)]
    return [weight for part in parts for weight in part.parameters()]


def test_known_names_are_found_with_the_default_settings(model):
    """With its own scheduler where the model is distilled or predicts a flow, else with UniPC."""
    *_, (portraits, left) = find_known_names(model.pipe, NAMES[:2], NAMES[2:4], model.face_reader, num_images=2)
    assert left == 0 and portraits.names == (*NAMES[2:4], *NAMES[:2]) and portraits.found.tolist() == [2] * 4
    steps, guidance, sampler = json.loads(portraits.drawn)[-3:]
    own, unet = drawing_defaults(model.pipe), hasattr(model.pipe, "unet")
    distilled = checkpoint(model) in DISTILLED
    assert steps in ((own.num_inference_steps,) if distilled else (3, 8)) and guidance == own.guidance_scale
    assert sampler == ("UniPCMultistepScheduler" if unet and not distilled else type(model.pipe.scheduler).__name__)


def test_few_steps_begin_at_the_noise(model, monkeypatch):
    """Leading spacing would begin where the network expects to see something of the image."""
    own = model.pipe.scheduler
    begun = []
    network = getattr(model.pipe, "unet", None)
    if network is None:
        pytest.skip("flow matching always begins there")
    forward = network.forward

    def seen(sample, timestep, *args, **options):
        begun.append(int(timestep))
        return forward(sample, timestep, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(network, "forward", seen)
        for sampler in (None, "unipc", "ddim"):
            model.generate("a photo of the person", num_inference_steps=3, sampler=sampler)
            assert begun[0] >= 990
            begun.clear()
    assert model.pipe.scheduler is own


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("stable-diffusion-v1-5", torch.float16),
        ("stable-diffusion-xl-base-1.0", torch.float16),
        ("FLUX.1-dev", torch.bfloat16),
        ("Z-Image-Turbo", torch.bfloat16),
    ],
)
def test_half_precision_fits_and_draws(name, dtype, tmp_path):
    pipe = load_pipeline(build(name, tmp_path), device="cpu", dtype=dtype)
    half = Model.from_pipeline(pipe, basis=CelebBasis.from_pipeline(pipe, NAMES), face_reader=Colours())
    photo = Image.linear_gradient("L").resize((SIDE, SIDE))
    recipe = {"max_train_steps": 1, "num_train_images": 1, "train_batch_size": 1, "scales": (1.0,)}
    annika = half.fit(photo, "zaza", **recipe)
    assert annika.vectors.isfinite().all() and annika.coefficients(half.basis).abs().max() > 0
    [image] = half.generate("a photo of <zaza>", [annika], num_inference_steps=2)
    assert image.size == (SIDE, SIDE)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("stable-diffusion-v1-5", torch.float16),
        ("stable-diffusion-xl-base-1.0", torch.float16),  # whose autoencoder computes in float32 meanwhile
        ("FLUX.2-klein-4B", torch.bfloat16),
    ],
)
def test_half_precision_has_the_face_loss(name, dtype, tmp_path):
    pipe = load_pipeline(build(name, tmp_path), device="cpu", dtype=dtype)
    half = Model.from_pipeline(pipe, basis=CelebBasis.from_pipeline(pipe, NAMES), face_reader=Colours())
    photo, steps = Image.linear_gradient("L").resize((SIDE, SIDE)), []
    recipe = {"max_train_steps": 1, "num_train_images": 1, "train_batch_size": 1, "scales": (1.0,), "face_loss": True}
    half.fit(photo, "zaza", progress=steps.append, scenes=("a photo of {}",), **recipe)
    assert steps[2].vectors.isfinite().all() and not torch.equal(steps[1].vectors, steps[2].vectors)
    assert pipe.vae.dtype == dtype


def test_the_log_names_the_sign(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="celeb_basis"):
        load_pipeline(build("sd-turbo", tmp_path), device="cpu", dtype=torch.float32)
    [line] = [record.message for record in caplog.records if "distilled" in record.message]
    assert "its name says turbo" in line and "1 step and guidance 0" in line


@pytest.mark.parametrize(("name", "length"), [("FLUX.1-schnell", 256), ("FLUX.1-dev", 512)])
def test_flux_reads_as_many_tokens_as_its_makers_say(name, length, tmp_path, monkeypatch):
    """In pictures, with regions, and in fits."""
    pipe = load_pipeline(build(name, tmp_path), device="cpu", dtype=torch.float32)
    seen, forward = set(), pipe.transformer.forward

    def counted(*args, **options):
        seen.add(options["encoder_hidden_states"].shape[1])
        return forward(*args, **options)

    monkeypatch.setattr(pipe.transformer, "forward", counted)
    generate(pipe, "a photo", num_inference_steps=1)
    assert seen == {length}
    seen.clear()
    generate(pipe, "ada and bo", num_inference_steps=1, regions={"ada": (0, 0, 0.5, 1), "bo": (0.5, 0, 1, 1)})
    assert seen == {3 * length}
    states, _ = get_denoiser(pipe).encode_prompts(["a photo"])
    assert states.shape[1] == length
    long = "a " * (length // 2)  # T5 has two tokens for a lone letter
    with pytest.raises(PromptError, match=f"of which this model reads {length}"):
        generate(pipe, long + long + long, num_inference_steps=1)


def test_stable_diffusion_3_draws_where_a_mask_is_white(tmp_path):
    """Its inpainting wants the published number of channels."""
    pipe = load_pipeline(build("stable-diffusion-3.5-medium", tmp_path), device="cpu", dtype=torch.float32)
    start = Image.effect_noise((SIDE, SIDE), 80)
    for grey in (0, 255):
        options = {"image": start, "mask_image": Image.new("L", (SIDE, SIDE), grey), "num_inference_steps": 4}
        one, two = (generate(pipe, prompt, **options)[0].tobytes() for prompt in ("a photo", "the beach"))
        assert (one == two) == (grey == 0)

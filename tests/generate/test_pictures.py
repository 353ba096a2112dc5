"""Drawing that starts from pictures: image, mask and ControlNet, by the pipelines that diffusers has for them."""

import diffusers
import numpy as np
import pytest
import torch
from conftest import NAMES, make_pipeline, state_of
from flows import make_flow
from PIL import Image

from celeb_basis import CelebBasis, Identity, ModelCard, PromptError
from celeb_basis.backend.defaults import drawing_defaults
from celeb_basis.backend.image_inputs import fit_pictures
from celeb_basis.backend.text_encoders import placeholders
from celeb_basis.generate import generate

MASK = Image.new("L", (32, 48))
MASK.paste(255, (0, 0, 16, 48))
STEPS = {"num_inference_steps": 4}


def noise(width=32, height=48):
    g = torch.Generator().manual_seed(3)
    return Image.fromarray(torch.randint(256, (height, width, 3), generator=g, dtype=torch.uint8).numpy())


@pytest.fixture(scope="module", params=["sd1", "sdxl", "sd3", "flux", "z-image"])
def pipe(request):
    pipe = make_pipeline(request.param) if request.param in ("sd1", "sdxl") else make_flow(request.param)
    pipe.card = ModelCard(resolution=16 if request.param == "sd3" else 32)  # its places end at 16
    return pipe


@pytest.fixture(scope="module")
def ada(pipe):
    return Identity.sample(CelebBasis.from_pipeline(pipe, NAMES), "<ada>", torch.Generator().manual_seed(1))


def pixels(images):
    return [np.asarray(image, int) for image in images]


def test_an_image_is_drawn_anew_as_stock_code_does(pipe, ada):
    before = state_of(pipe)
    two = generate(pipe, "a photo of <ada>", [ada], image=noise(), strength=0.5, num_images_per_prompt=2, **STEPS)
    assert state_of(pipe) == before
    own = diffusers.AutoPipelineForImage2Image.from_pipe(pipe)
    own.set_progress_bar_config(disable=True)
    sides = (16, 16) if isinstance(pipe, diffusers.StableDiffusion3Pipeline) else (24, 40)
    small = noise().resize(sides, Image.Resampling.LANCZOS)  # about the area of the model's own
    size = dict(zip(("width", "height"), sides, strict=True)) if "transformer" in own.components else {}
    guidance = {"guidance_scale": 3.5} if isinstance(pipe, diffusers.FluxPipeline) else {}
    prompt = "a photo of <ada>" if hasattr(own, "maybe_convert_prompt") else "a photo of <ada> <ada>_1"
    with placeholders(own, {"<ada>": ada.vectors}):
        g = [torch.Generator().manual_seed(1)]
        [stock] = own(prompt, image=small, strength=0.5, generator=g, **STEPS, **size, **guidance).images
    assert two[1].size == stock.size == sides and abs(np.subtract(*pixels([two[1], stock]))).max() <= 1
    assert two[1].info["denoising_strength"] == "0.5" and len(two[1].info["image"]) == 12


def test_more_strength_leaves_less_of_the_image(pipe, ada):
    def off(strength):
        [image] = generate(pipe, "<ada>", [ada], image=noise(), strength=strength, num_inference_steps=8)
        start = noise().resize(image.size, Image.Resampling.LANCZOS)
        return abs(np.asarray(image, int) - np.asarray(start, int)).mean()

    assert off(0.25) != off(1.0)


def test_only_what_the_mask_shows_is_drawn(pipe, ada):
    if type(pipe).__name__ == "StableDiffusion3Pipeline":
        pytest.skip("its inpainting wants 16 channels, which tests of the published checkpoints have")
    drawn = {}
    for prompt in ("<ada>", "the beach"):
        people = [ada] if "ada" in prompt else []
        [image] = generate(pipe, prompt, people, image=noise(), mask_image=MASK, **STEPS)
        drawn[prompt] = np.asarray(image, int)
    changed = abs(drawn["<ada>"] - drawn["the beach"]).sum(-1)
    middle = changed.shape[1] // 2
    assert changed[:, :middle].sum() > 2 * changed[:, middle:].sum()


def test_a_size_that_is_asked_for_is_that_of_the_picture(pipe, ada):
    [image] = generate(pipe, "<ada>", [ada], image=noise(), width=16, height=8, **STEPS)
    assert image.size == (16, 8)


def test_steps_leave_some_for_the_image(pipe, ada, monkeypatch):
    with pytest.raises(PromptError, match=r"2 steps at strength 0\.3 draw nothing anew: take at least 4") as refused:
        generate(pipe, "<ada>", [ada], image=noise(), strength=0.3, num_inference_steps=2)
    assert refused.value.argument == "num_inference_steps"
    monkeypatch.setattr(pipe, "card", ModelCard(resolution=pipe.card.resolution, num_inference_steps=1))
    assert generate(pipe, "<ada>", [ada], image=noise(), strength=0.3)[0].info["steps"] == "4"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strength": 0.5}, "give the image"),
        ({"image": noise(), "strength": 0.0}, "a number above 0"),
        ({"image": noise(), "strength": float("nan")}, "a number above 0"),
        ({"mask_image": MASK}, "give the image too"),
        ({"control_image": noise()}, "has no ControlNet"),
    ],
)
def test_pictures_that_say_nothing_alone(pipe, ada, options, says):
    with pytest.raises(PromptError, match=says) as refused:
        generate(pipe, "<ada>", [ada], **options, **STEPS)
    assert "\n" not in str(refused.value)


# Pipelines of the owner's


@pytest.fixture(scope="module")
def sd1():
    return make_pipeline("sd1")


@pytest.fixture(scope="module")
def annika(sd1):
    return Identity.sample(CelebBasis.from_pipeline(sd1, NAMES), "<annika>", torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["StableDiffusionImg2ImgPipeline", "LatentConsistencyModelImg2ImgPipeline"])
def test_a_pipeline_that_starts_from_an_image_says_so(sd1, annika, kind):
    own = getattr(diffusers, kind).from_pipe(sd1)
    own.set_progress_bar_config(disable=True)
    with pytest.raises(PromptError, match=rf"a {kind} needs a picture to start from.*argument: image"):
        generate(own, "<annika>", [annika], **STEPS)
    if kind == "StableDiffusionImg2ImgPipeline":
        [image] = generate(own, "<annika>", [annika], image=noise(16, 16), **STEPS)
        assert image.size == (16, 16)


@pytest.mark.parametrize("start", [False, True])
def test_a_control_net_gets_its_picture(sd1, annika, start):
    net = diffusers.ControlNetModel.from_unet(sd1.unet, conditioning_embedding_out_channels=(8, 16))
    for weight in net.parameters():  # which begins as nothing
        torch.nn.init.normal_(weight, std=0.2)
    kind = f"StableDiffusionControlNet{'Img2Img' * start}Pipeline"
    own = getattr(diffusers, kind).from_pipe(sd1, controlnet=net)
    own.set_progress_bar_config(disable=True)
    more = {"image": noise(16, 16)} if start else {}
    with pytest.raises(PromptError, match="needs a picture to start from: give"):
        generate(own, "<annika>", [annika], **more, **STEPS)
    drawn = pixels(
        generate(own, "<annika>", [annika], control_image=picture, num_images_per_prompt=2, **more, **STEPS)[1]
        for picture in (noise(16, 16), Image.new("RGB", (16, 16)))
    )
    assert abs(drawn[0] - drawn[1]).max() > 1
    alone = generate(own, "<annika>", [annika], control_image=noise(16, 16), seed=1, **more, **STEPS)
    assert abs(pixels(alone)[0] - drawn[0]).max() <= 1


def test_a_control_net_takes_an_image_to_start_from(sd1, annika):
    """By the pipeline that diffusers has for both."""
    net = diffusers.ControlNetModel.from_unet(sd1.unet, conditioning_embedding_out_channels=(8, 16))
    own = diffusers.StableDiffusionControlNetPipeline.from_pipe(sd1, controlnet=net)
    own.set_progress_bar_config(disable=True)
    [image] = generate(own, "<annika>", [annika], control_image=noise(16, 16), image=noise(16, 16), **STEPS)
    assert {"image", "control_image"} <= image.info.keys()


def test_a_pipeline_that_needs_more_is_refused_before_it_draws(sd1, annika):
    own = diffusers.StableDiffusionAttendAndExcitePipeline.from_pipe(sd1)
    with pytest.raises(PromptError, match="needs token_indices, which only its own call takes: load the person with"):
        generate(own, "<annika>", [annika], **STEPS)


def test_what_a_pipeline_does_not_take_is_refused(sd1, annika):
    own = diffusers.LatentConsistencyModelPipeline.from_pipe(sd1)
    with pytest.raises(PromptError, match="takes no negative_prompt: leave it out"):
        generate(own, "<annika>", [annika], negative_prompt="the beach", **STEPS)


@pytest.fixture(scope="module")
def klein():
    return make_flow("klein")


@pytest.fixture(scope="module")
def people(klein):
    basis = CelebBasis.from_pipeline(klein, NAMES)
    return [
        Identity.sample(basis, f"<{name}>", torch.Generator().manual_seed(i)) for i, name in enumerate(("ada", "bo"))
    ]


@pytest.mark.parametrize("references", [[noise(64, 96)], [noise(64, 64), Image.new("RGBA", (96, 64), "red")]])
def test_references_are_given_to_the_stock_pipeline_as_they_are(klein, people, references):
    ada, before = people[0], state_of(klein)
    given = references[0] if len(references) == 1 else references
    two = generate(klein, "a photo of <ada>", [ada], reference_image=given, num_images_per_prompt=2, **STEPS)
    assert state_of(klein) == before
    with placeholders(klein, {"<ada>": ada.vectors}):
        stock = klein(
            prompt=["a photo of <ada> <ada>_1"] * 2,
            image=[picture.convert("RGB") for picture in references],
            generator=[torch.Generator().manual_seed(i) for i in range(2)],
            guidance_scale=drawing_defaults(klein).guidance_scale,
            **STEPS,
        ).images
    assert [image.tobytes() for image in two] == [image.tobytes() for image in stock]
    assert two[0].size == references[0].size and len(two[0].info["reference_image"]) == 12
    plain = generate(klein, "a photo of <ada>", [ada], width=64, height=96, **STEPS)[0]
    assert "reference_image" not in plain.info and plain.tobytes() != two[0].tobytes()


def test_what_goes_with_no_reference_is_refused(klein, people):
    for options, says in (
        ({"image": noise(64, 64)}, "draws no picture anew: leave image out"),
        ({"reference_image": noise(64, 64), "mask_image": MASK}, "give the image too"),
        ({"reference_image": noise(64, 64), "regions": "auto"}, "regions are not: leave one out"),
        ({"reference_image": noise(16, 16)}, "at least 64px"),
    ):
        with pytest.raises(PromptError, match=says) as refused:
            generate(klein, "<ada> and <bo>", people, **options, **STEPS)
        assert "\n" not in str(refused.value)


def test_a_reference_is_refused_by_every_other_family(pipe, ada):
    with pytest.raises(PromptError, match=r"takes no reference picture: leave it out, or name a model of FLUX.2 klein"):
        generate(pipe, "<ada>", [ada], reference_image=noise(64, 64), **STEPS)


@pytest.mark.parametrize(
    ("size", "asked", "expected"),
    [
        ((4000, 3000), (None, None), (592, 440)),  # the area of 512 x 512
        ((400, 300), (None, None), (400, 304)),  # small ones stay small
        ((400, 300), (512, None), (512, 304)),
        ((3, 1000), (None, None), (8, 1000)),
    ],
)
def test_pictures_are_scaled_to_what_the_model_draws(size, asked, expected):
    fitted = fit_pictures({"image": Image.new("RGB", size), "mask_image": MASK}, 512, 8, *asked)
    assert {picture.size for picture in fitted.values()} == {expected}
    assert fitted["image"].mode == "RGB" and fitted["mask_image"].mode == "L"

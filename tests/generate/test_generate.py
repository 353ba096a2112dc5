import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from conftest import NAMES, add_safety_checker, make_pipeline, state_of
from PIL import Image

from celeb_basis import CelebBasis, Identity, IdentityError, ModelCard, ModelError, OutputError, PromptError, save_image
from celeb_basis.backend.text_encoders import placeholders
from celeb_basis.cli import main
from celeb_basis.generate import generate

FAST = {"num_inference_steps": 2}


def same(a, b, tolerance=1):
    return len(a) == len(b) and all(
        abs(np.asarray(x, int) - np.asarray(y, int)).max() <= tolerance for x, y in zip(a, b, strict=True)
    )


def test_is_the_bare_pipeline(pipe, ada, bo):
    prompt = "a photo of <ada> and <bo> on the beach"
    before = state_of(pipe)
    ours = generate(pipe, prompt, [ada, bo], seed=5, guidance_scale=3.0, **FAST)
    assert state_of(pipe) == before
    with placeholders(pipe, {"<ada>": ada.vectors, "<bo>": bo.vectors}):
        g = torch.Generator().manual_seed(5)
        bare = pipe(prompt, generator=g, guidance_scale=3.0, **FAST).images
    assert same(ours, bare, tolerance=0)
    assert not same(ours, generate(pipe, prompt.replace("<bo>", "<ada>"), [ada], seed=5, **FAST))


def test_pictures_do_not_depend_on_their_batch(pipe, ada):
    prompts = ["a photo of <ada>", "<ada> on the beach"]
    together = generate(pipe, prompts, [ada], num_images_per_prompt=3, seed=2, batch_size=4, **FAST)
    assert len(together) == 6
    alone = [generate(pipe, p, [ada], seed=2 + i, **FAST)[0] for p in prompts for i in range(3)]
    assert same(together, alone)
    assert not same(together[:1], together[1:2])


def test_capitals_in_the_prompt_mean_the_same(pipe, ada):
    assert same(
        generate(pipe, "a photo of <ADA>", [ada], **FAST),
        generate(pipe, "a photo of <ada>", [ada], **FAST),
        0,
    )


def test_no_identity_is_fine_too(pipe):
    assert generate(pipe, "a photo", height=8, width=16, **FAST)[0].size == (16, 8)


def test_models_may_recommend_their_own_steps(pipe, ada):
    seen = []
    pipe.card = ModelCard(num_inference_steps=3, templates=("{}",))
    try:
        generate(pipe, "<ada>", [ada])
        count = pipe.scheduler.num_inference_steps
        generate(pipe, "<ada>", [ada], num_inference_steps=2)
        seen = [count, pipe.scheduler.num_inference_steps]
    finally:
        del pipe.card
    assert seen == [3, 2]


def test_prompts_that_would_not_mean_what_was_meant(pipe, ada, bo):
    with pytest.raises(PromptError, match="nobody called <bo>"):
        generate(pipe, "<ada> and <bo>", [ada], **FAST)
    with pytest.raises(PromptError, match="does not mention <bo>"):
        generate(pipe, "<ada>", [ada, bo], **FAST)
    with pytest.raises(PromptError, match="two identities"):
        generate(pipe, "<ada>", [ada, ada], **FAST)
    with pytest.raises(PromptError, match="too long"):
        generate(pipe, "a " * 18 + "<ada>", [ada], **FAST)
    with pytest.raises(PromptError, match="too long"):
        generate(pipe, "<ada>", [ada], negative_prompt="a " * 30, **FAST)
    with pytest.raises(PromptError, match="nobody called <bo>"):
        generate(pipe, "<ada>", [ada], negative_prompt="<bo>", **FAST)


def test_capitals_in_the_negative_prompt_mean_the_same(pipe, ada):
    drawn = [generate(pipe, "<ada>", [ada], negative_prompt=text, **FAST) for text in ("<ADA>", "<ada>", "a")]
    assert same(drawn[0], drawn[1], 0) and not same(drawn[1], drawn[2], 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_inference_steps": 2000}, "1 to 1000"),
        ({"num_inference_steps": 0}, "1 to 1000"),
        ({"height": 12}, "height 12: it must be a multiple of 8"),
        ({"width": 0}, "multiple of 8"),
    ],
)
def test_what_a_model_cannot_draw_is_one_line(pipe, options, says):
    with pytest.raises(PromptError, match=says):
        generate(pipe, "a photo", **options)


def test_identities_of_other_models_are_refused(pipe, ada):
    stranger = Identity("<ada>", ada.vectors, ada.encoder_dims, fingerprint="another")
    with pytest.raises(IdentityError):
        generate(pipe, "<ada>", [stranger], **FAST)


def test_a_picture_says_how_it_was_made(tmp_path):
    path = tmp_path / "x.png"
    save_image(Image.new("RGB", (4, 4)), path, prompt="<ada> in Köln 雪", seed=3, model="miniature")
    text = Image.open(path).text
    assert text["prompt"] == "<ada> in Köln 雪" and text["seed"] == "3" and text["model"] == "miniature"
    assert text["Software"].startswith("celeb-basis")
    assert "digitalsourcetype/trainedAlgorithmicMedia" in text["XML:com.adobe.xmp"]
    from xml.etree import ElementTree

    ElementTree.fromstring(text["XML:com.adobe.xmp"].split("?>", 1)[1].rsplit("<?", 1)[0])
    with pytest.raises(OutputError, match="PNG"):
        save_image(Image.new("RGB", (4, 4)), tmp_path / "x.jpg", prompt="", seed=0, model="")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("command", [["exiftool", "-s"], ["exiv2", "-PXkt"]], ids=["exiftool", "exiv2"])
def test_other_programs_read_how_a_picture_was_made(tmp_path, command):
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    prompt = 'a "photo" of <ada> & Bjørn in Köln 雪'
    save_image(Image.new("RGB", (4, 4)), tmp_path / "x.png", prompt=prompt, seed=3, model="owner/model")
    said = subprocess.run([*command, tmp_path / "x.png"], capture_output=True, encoding="utf-8", check=True).stdout
    expected = {
        "DigitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
        "AISystemUsed": "owner/model",
        "AIPromptInformation": prompt,
    }
    if command[0] == "exiftool":  # which also reads the texts of a PNG
        expected |= {"Prompt": prompt, "Seed": "3", "Model": "owner/model"}
    for field, value in expected.items():
        assert re.search(rf"\b{field}[ :]+{re.escape(value)}$", said, re.MULTILINE), said


def test_a_picture_that_the_safety_checker_blackens_is_named(caplog):
    pipe = make_pipeline("sd1")
    add_safety_checker(pipe, threshold=2)
    assert len(generate(pipe, "a photo", num_images_per_prompt=2, **FAST)) == 2 and not said_by_us(caplog)
    add_safety_checker(pipe, threshold=-2)
    black = generate(pipe, "a photo", num_images_per_prompt=2, seed=7, **FAST)
    assert not any(np.asarray(picture).any() for picture in black)
    [said] = said_by_us(caplog)
    assert "2 of 2 pictures black (seed 7, 8)" in said


def said_by_us(caplog):
    return [record.getMessage() for record in caplog.records if record.name.startswith("celeb_basis")]


def test_the_command_line_says_it_once_and_leaves_the_checker_out_when_told(tmp_path, capsys):
    pipe = make_pipeline("sd1")
    add_safety_checker(pipe, threshold=-2)
    pipe.save_pretrained(tmp_path / "sd")
    line = ["generate", "a photo", "--model", str(tmp_path / "sd"), "--device", "cpu", "--steps", "2"]
    capsys.readouterr()
    assert main([*line, "-o", str(tmp_path / "black.png")]) == 0
    said = [text for text in capsys.readouterr().err.splitlines() if "black" in text]
    assert len(said) == 1 and said[0].startswith("celeb-basis: the model's safety checker made 1 of 1 pictures black")
    assert not np.asarray(Image.open(tmp_path / "black.png")).any()
    assert main([*line, "-o", str(tmp_path / "plain.png"), "--no-safety-checker"]) == 0
    assert "black" not in capsys.readouterr().err and np.asarray(Image.open(tmp_path / "plain.png")).any()


@pytest.mark.parametrize("option", ["num_images_per_prompt", "batch_size"])
@pytest.mark.parametrize("number", [0, -1])
def test_counts_of_nothing_are_refused(pipe, option, number):
    with pytest.raises(PromptError, match=f"{option}={number} must be at least 1"):
        generate(pipe, "a photo", **{option: number}, **FAST)


def test_steps_that_a_scheduler_cannot_take_are_refused():
    from diffusers import LCMScheduler

    pipe = make_pipeline("sd1")
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(PromptError, match="LCMScheduler does not take 60 steps") as refused:
        generate(pipe, "a photo", num_inference_steps=60)
    assert refused.value.argument == "num_inference_steps" and "\n" not in str(refused.value)


def test_somebody_may_stand_in_the_negative_prompt_alone(pipe, ada, bo):
    """As embeddings of what pictures should not show do."""
    with_bo = generate(pipe, "<ada>", [ada, bo], negative_prompt="<bo>", **FAST)
    assert not same(with_bo, generate(pipe, "<ada>", [ada], negative_prompt="a", **FAST), 0)
    with pytest.raises(PromptError, match="does not mention <bo>"):
        generate(pipe, "<ada>", [ada, bo], negative_prompt="a", **FAST)


@pytest.mark.parametrize(
    ("prompt", "says", "argument"),
    [
        ("(<ada>:1.3) on the beach", r"'\(<ada>:1\.3\)' is a weight in AUTOMATIC1111 and ComfyUI", None),
        ("<ada> on the (beach: .8)", r"'\(beach: \.8\)' is a weight", None),
        ("<ada> BREAK on the beach", "'BREAK' begins another part of a prompt", None),
        ("<ada> <lora:detail:0.8>", "'<lora:detail:0.8>' loads a file in AUTOMATIC1111: take it out", "lora"),
        ("[<ada>:a person:.5]", r"'\[<ada>:a person:\.5\]' changes the prompt between steps", None),
    ],
)
def test_what_other_programs_write_into_prompts_is_named(pipe, ada, prompt, says, argument):
    """Here it would be words, and nobody would know."""
    for prompts in ({"prompt": prompt}, {"prompt": "<ada>", "negative_prompt": prompt}):
        with pytest.raises(PromptError, match=says) as refused:
            generate(pipe, identities=[ada], **prompts, **FAST)
        assert refused.value.argument == argument and "\n" not in str(refused.value)


@pytest.mark.parametrize("prompt", ["<ada>, a (face), left: right", "<ada> at 1:30 [a] (b: c)", "<ada> and a break"])
def test_words_that_are_no_notation_stay_words(pipe, ada, prompt):
    assert len(generate(pipe, prompt, [ada], **FAST)) == 1


@pytest.mark.parametrize(
    "scheduler", ["LCMScheduler", "TCDScheduler", "PNDMScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler",
                  "DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "LMSDiscreteScheduler", "DDPMScheduler",
                  "EulerAncestralDiscreteScheduler", "IPNDMScheduler", "DPMSolverSDEScheduler", "SASolverScheduler",
                  "CMStochasticIterativeScheduler", "EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler"]
)  # fmt: skip
def test_every_scheduler_draws_or_one_line_says_what_it_does_not(scheduler, ada_of_sd1):
    import diffusers

    pipe, ada = ada_of_sd1
    own = pipe.scheduler
    try:
        pipe.scheduler = getattr(diffusers, scheduler).from_config(own.config)
    except ImportError:
        pytest.skip("it needs another package")
    try:
        for steps in (1, 2, 3):
            try:
                assert generate(pipe, "<ada>", [ada], num_inference_steps=steps)[0].size == (16, 16)
            except (PromptError, ModelError) as error:
                assert scheduler in str(error) and "\n" not in str(error)
    finally:
        pipe.scheduler = own


@pytest.fixture(scope="module")
def ada_of_sd1():
    pipe = make_pipeline("sd1")
    return pipe, Identity.sample(CelebBasis.from_pipeline(pipe, NAMES), "<ada>", torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_picture_that_an_overflow_blackens_is_named(kind, dtype, caplog):
    pipe = make_pipeline(kind).to(dtype=dtype)
    pipe.vae.register_to_config(force_upcast=False)
    with torch.no_grad():
        for weight in pipe.vae.decoder.parameters():
            weight *= torch.tensor(1e9 if dtype == torch.float32 else 1e3).to(dtype)
    black = generate(pipe, "a photo", num_images_per_prompt=2, seed=7, **FAST)
    assert not any(np.asarray(picture).any() for picture in black)
    [said] = said_by_us(caplog)
    name = str(dtype).removeprefix("torch.")
    assert said.startswith(f"an overflow in {name} made 2 of 2 pictures black (seed 7, 8): ")
    assert ("load the model in bfloat16 or float32" in said) == (dtype == torch.float16)
    assert ("madebyollin/sdxl-vae-fp16-fix" in said) == (dtype == torch.float16 and kind == "sdxl")


def test_an_autoencoder_that_overflows_in_half_precision_is_cast_as_its_configuration_asks(caplog):
    """With what would be black otherwise, as the test before shows."""
    pipe = make_pipeline("sdxl").to(dtype=torch.float16)
    with torch.no_grad():
        pipe.vae.decoder.conv_in.weight *= 1e4  # taken back by the normalisation behind it
    assert pipe.vae.config.force_upcast
    [image] = generate(pipe, "a photo", **FAST)
    assert np.asarray(image).any() and not said_by_us(caplog) and pipe.vae.dtype == torch.float16
    pipe.vae.register_to_config(force_upcast=False)
    [image] = generate(pipe, "a photo", **FAST)
    assert not np.asarray(image).any() and "overflow in float16" in said_by_us(caplog)[0]

"""What `generate` takes beside people: LoRA files, pictures to start from, sizes, names of embeddings to avoid."""

import numpy as np
import pytest
import torch
from called import answer, complaint
from conftest import NAMES, make_pipeline
from flows import make_flow
from PIL import Image
from safetensors.torch import save_file

from celeb_basis import CelebBasis, Identity


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, two people and a LoRA."""
    folder = tmp_path_factory.mktemp("generate")
    pipe = make_pipeline("sd1")
    pipe.save_pretrained(folder / "sd")
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    for seed, name in enumerate(("annika", "ugly")):
        Identity.sample(basis, f"<{name}>", torch.Generator().manual_seed(seed)).save(folder / f"{name}.safetensors")
    key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v"
    width, g = pipe.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_v.weight.shape, torch.Generator()
    lora = {"A": torch.randn(2, width[1], generator=g), "B": torch.randn(width[0], 2, generator=g)}
    save_file({f"{key}.lora_{k}.weight": v for k, v in lora.items()}, folder / "detail.safetensors")
    (folder / "photo.jpg").parent.mkdir(exist_ok=True)
    Image.effect_noise((60, 40), 90).convert("RGB").save(folder / "photo.jpg")
    Image.linear_gradient("L").resize((60, 40)).save(folder / "mask.png")
    return folder


@pytest.fixture
def drawn(folder, tmp_path, capsys):
    def draw(*options, prompt="a photo of <annika>"):
        said = answer(
            capsys, "generate", prompt, "--identity", folder / "annika.safetensors", "--model", folder / "sd",
            "--device", "cpu", "--steps", 2, "-o", tmp_path, *options,
        )  # fmt: skip
        with Image.open(said["pictures"][-1]) as image:
            image.load()
            return image

    return draw


def differ(a, b):
    return a.size != b.size or (np.asarray(a) != np.asarray(b)).any()


def test_each_option_changes_the_picture_and_is_noted_in_it(folder, drawn):
    plain = drawn()
    lora = drawn("--lora", f"{folder / 'detail.safetensors'}=.5")
    assert differ(lora, plain) and lora.text["loras"] == "detail=0.5"
    assert not differ(drawn("--lora", f"{folder / 'detail.safetensors'}=0"), plain)
    wide = drawn("--width", 32, "--height", 8)
    assert wide.size == (32, 8) and wide.text["size"] == "32x8"
    start = drawn("--image", folder / "photo.jpg", "--image-strength", 0.9, "-n", 2)
    assert differ(start, plain) and start.text["denoising_strength"] == "0.9" and len(start.text["image"]) == 12
    assert "Denoising strength: 0.9" in start.text["parameters"]
    masked = drawn("--image", folder / "photo.jpg", "--mask-image", folder / "mask.png")
    assert differ(masked, start) and len(masked.text["mask_image"]) == 12
    avoided = drawn("--identity", folder / "ugly.safetensors", "--negative-prompt", "<ugly>")
    assert differ(avoided, plain) and avoided.text["negative_prompt"] == "<ugly>"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--mask-image", "mask.png"], "--mask-image and --image-strength are for --image"),
        (["--image-strength", ".5"], "--mask-image and --image-strength are for --image"),
        (["--image", "photo.jpg", "--image-strength", "0"], "draws nothing anew: give a number above 0"),
        (["--image", "nowhere.jpg"], "nowhere.jpg"),
        (["--apart"], "no prompt names two people to keep apart"),
        (["--image", "annika.safetensors"], "annika.safetensors"),
        (["--reference", "nowhere.jpg"], "nowhere.jpg"),
        (["--lora", "nowhere.safetensors"], "nowhere.safetensors: no such file"),
        (["--lora", "detail.safetensors=much"], "is not FILE or FILE=WEIGHT"),
        (["--lora", "mask.png"], "is no .safetensors file"),
        (["--width", "12"], "multiple of 8"),
        (["--width", "0"], "whole number of 1 or more"),
        (["--height", "99999"], "height 99999"),
    ],
)
def test_what_is_wrong_is_one_line_before_a_model_is_loaded(folder, capsys, monkeypatch, options, says):
    monkeypatch.chdir(folder)
    line = ["generate", "a photo of <annika>", "--identity", "annika.safetensors"]
    model = ["--model", "sd"] if options[0] in ("--width", "--height") else ["--model", "nowhere"]
    assert says in complaint(capsys, *line, *model, *options)


def test_a_lora_in_the_prompt_is_to_be_an_option(folder, capsys):
    prompt = "a photo of <annika> <lora:detail:.8>"
    said = complaint(capsys, "generate", prompt, "--identity", folder / "annika.safetensors", "--model", "nowhere")
    assert "loads a file in AUTOMATIC1111" in said and "--lora" in said


def test_a_file_of_another_model_is_refused(folder, tmp_path, capsys):
    save_file({"unet.a.lora_A.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    said = complaint(
        capsys,
        "generate",
        "a photo",
        "--model",
        folder / "sd",
        "--lora",
        tmp_path / "other.safetensors",
        "-o",
        tmp_path,
    )
    assert "other.safetensors" in said and "LoRA" in said and not list(tmp_path.glob("*.png"))


def test_a_reference_is_refused_before_a_model_is_loaded(folder, tmp_path, capsys):
    (tmp_path / "model_index.json").write_text('{"_class_name": "ZImagePipeline"}')  # and no weights
    said = complaint(
        capsys, "generate", "<annika>", "--identity", folder / "annika.safetensors", "--model", tmp_path,
        "--reference", folder / "photo.jpg",
    )  # fmt: skip
    assert "a ZImagePipeline takes no reference picture" in said and said.endswith("FLUX.2 klein (--reference)\n")


def test_klein_looks_at_a_reference(folder, tmp_path, capsys):
    klein = make_flow("klein")
    klein.save_pretrained(tmp_path / "klein")
    basis = CelebBasis.from_pipeline(klein, NAMES)
    Identity.sample(basis, "<bo>", torch.Generator().manual_seed(0)).save(tmp_path / "bo.safetensors")
    Image.open(folder / "photo.jpg").resize((96, 64)).save(tmp_path / "me.png")
    options = ("--identity", tmp_path / "bo.safetensors", "--model", tmp_path / "klein", "--device", "cpu")
    file = tmp_path / "out.png"
    answer(capsys, "generate", "<bo>", *options, "--reference", tmp_path / "me.png", "--steps", 2, "-o", file)
    with Image.open(file) as image:
        assert image.size == (96, 64) and len(image.text["reference_image"]) == 12
    assert "give --reference too" in complaint(capsys, "generate", "--like", file, *options)

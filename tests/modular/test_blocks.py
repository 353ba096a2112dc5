"""Blocks for modular diffusers: pictures are those of the stock blocks with the same embeddings, photo to picture."""

import importlib.util
from pathlib import Path

import diffusers
import pytest
import torch
from conftest import NAMES, make_pipeline, state_of
from flows import make_flow

from celeb_basis import CelebBasis, Identity, IdentityError, Model, miniature
from celeb_basis.backend.text_encoders import placeholders

FILE = Path(__file__).parents[2] / "integrations/diffusers/blocks.py"
KINDS = {
    "sdxl": (diffusers.StableDiffusionXLAutoBlocks, 32),
    "sd3": (diffusers.StableDiffusion3AutoBlocks, 16),
    "flux": (diffusers.FluxAutoBlocks, 64),
    "klein": (diffusers.Flux2KleinAutoBlocks, 64),
    "z-image": (diffusers.ZImageAutoBlocks, 64),
}


@pytest.fixture(scope="module")
def own():
    spec = importlib.util.spec_from_file_location("celeb_basis_blocks", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    stock = make_pipeline("sdxl") if request.param == "sdxl" else make_flow(request.param)
    return stock, *KINDS[request.param]


def assembled(blocks, stock):
    """A modular pipeline of a stock pipeline's parts."""
    pipe = blocks.init_pipeline()
    parts = {name: part for name, part in stock.components.items() if part is not None}
    pipe.update_components(**{name: part for name, part in parts.items() if name in pipe._component_specs})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def with_people(own, blocks):
    blocks.sub_blocks["text_encoder"] = own.InsertPeople(blocks.sub_blocks["text_encoder"])
    return blocks


def draw(pipe, side, prompt, **more):
    [image] = pipe(
        prompt=prompt, num_inference_steps=2, height=side, width=side, generator=torch.Generator().manual_seed(0),
        output="images", **more,
    )  # fmt: skip
    return image.tobytes()


def test_people_are_in_the_pictures_of_every_family_with_blocks(own, kind):
    stock, blocks, side = kind
    ada = Identity.sample(CelebBasis.from_pipeline(stock, NAMES), "<ada>", torch.Generator().manual_seed(1))
    before, plain = state_of(stock), assembled(blocks(), stock)
    drawn = draw(assembled(with_people(own, blocks()), stock), side, "a photo of <ada>", people=[ada])
    assert state_of(stock) == before
    written = "a photo of <ada>" if hasattr(plain, "maybe_convert_prompt") else "a photo of <ada> <ada>_1"
    with placeholders(plain, {"<ada>": ada.vectors}):
        assert drawn == draw(plain, side, written)
    nobody = draw(assembled(with_people(own, blocks()), stock), side, "a photo of ada")
    assert nobody == draw(plain, side, "a photo of ada") != drawn


def test_a_person_of_another_model_is_refused(own, kind):
    stock, blocks, side = kind
    other = Identity.sample(CelebBasis.from_pipeline(make_pipeline("sd1"), NAMES), "<ada>")
    with pytest.raises(IdentityError, match="<ada> was made for"):
        draw(assembled(with_people(own, blocks()), stock), side, "<ada>", people=[other])


def test_from_a_photo_to_a_picture_in_one_call(own):
    stock, reader = make_pipeline("sdxl"), Model.load("miniature").face_reader
    model = Model.from_pipeline(stock, basis=CelebBasis.from_pipeline(stock, NAMES), face_reader=reader)
    photo, recipe = miniature.person(7, 256), {"max_train_steps": 1, "train_batch_size": 1, "num_milestones": 0}
    before, blocks = state_of(stock), with_people(own, diffusers.StableDiffusionXLAutoBlocks())
    blocks.sub_blocks.insert("fit_person", own.FitPerson(model, **recipe), 0)
    bo = model.sample("bo", seed=1)
    drawn = draw(assembled(blocks, stock), 32, "<bo> and <annika>", photo=photo, name="annika", people=[bo])
    assert state_of(stock) == before
    people = [bo, model.fit(photo, "annika", **recipe)]
    alone = assembled(with_people(own, diffusers.StableDiffusionXLAutoBlocks()), stock)
    assert drawn == draw(alone, 32, "<bo> and <annika>", people=people)

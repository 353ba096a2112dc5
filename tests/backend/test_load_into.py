"""Identities in pipelines that only diffusers has touched."""

import pytest
import torch
from conftest import NAMES, make_pipeline, state_of

from celeb_basis import CelebBasis, Identity, IdentityError, PromptError
from celeb_basis.backend.text_encoders import placeholders

KINDS = ["sd1", "sd2", "sdxl", "sdxl-eos2"]


def person(pipe, token="<annika>", seed=1):
    return Identity.sample(CelebBasis.from_pipeline(pipe, NAMES), token, torch.Generator().manual_seed(seed))


def drawn(pipe, prompt="a photo of <annika> on the beach"):
    g = torch.Generator().manual_seed(0)
    return pipe(prompt, num_inference_steps=2, generator=g, output_type="np").images


@pytest.mark.parametrize("kind", KINDS)
def test_a_stock_pipeline_draws_as_the_library_does(kind):
    pipe = make_pipeline(kind)
    annika = person(pipe)
    with placeholders(pipe, {"<annika>": annika.vectors}):
        ours = drawn(pipe)
    before, plain = state_of(pipe), drawn(pipe, "a photo of the person")
    annika.load_into(pipe)
    assert (drawn(pipe) == ours).all()
    assert (drawn(pipe, "a photo of the person") == plain).all()
    annika.unload(pipe)
    assert state_of(pipe) == before


@pytest.mark.parametrize("kind", KINDS)
def test_several_people_come_and_go(kind):
    pipe = make_pipeline(kind)
    annika, tovik = person(pipe), person(pipe, "<tovik>", seed=2)
    with placeholders(pipe, {"<tovik>": tovik.vectors}):
        ours = drawn(pipe, "a photo of <tovik>")
    before = state_of(pipe)
    annika.load_into(pipe)
    tovik.load_into(pipe)
    assert (drawn(pipe, "a photo of <tovik>") == ours).all()
    annika.unload(pipe)
    assert (drawn(pipe, "a photo of <tovik>") == ours).all()
    tovik.unload(pipe)
    assert state_of(pipe) == before


def test_what_is_refused():
    pipe = make_pipeline("sdxl")
    annika = person(pipe)
    with pytest.raises(IdentityError, match="not loaded"):
        annika.unload(pipe)
    annika.load_into(pipe)
    with pytest.raises(PromptError, match="already has a meaning"):
        annika.load_into(pipe)
    with pytest.raises(IdentityError, match="fit it again"):
        annika.load_into(make_pipeline("sd1"))


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_embeddings_that_others_make_of_a_prompt_hold_the_person(kind):
    """As libraries for weights in prompts do: they ask the text encoder, and give the pipeline what they make of it."""
    pipe = make_pipeline(kind)
    person(pipe).load_into(pipe)
    whole = drawn(pipe)
    states, negative, *pooled = pipe.encode_prompt(
        "a photo of <annika> on the beach", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True
    )
    text = {"prompt_embeds": states, "negative_prompt_embeds": negative}
    if pooled:
        text |= {"pooled_prompt_embeds": pooled[0], "negative_pooled_prompt_embeds": pooled[1]}

    def draw(**more):
        g = torch.Generator().manual_seed(0)
        return pipe(num_inference_steps=2, generator=g, output_type="np", **text | more).images

    assert (draw() == whole).all()
    weights = torch.ones(states.shape[1])
    weights[4:6] = 1.5  # the two vectors of the person
    assert not (draw(prompt_embeds=states * weights[:, None]) == whole).all()

"""Regions: layout words, masks, and pictures whose parts read their own version of the prompt."""

import math

import numpy as np
import pytest
import torch
from conftest import NAMES, make_pipeline, state_of

from celeb_basis import Identity, PromptError
from celeb_basis.backend.text_encoders import placeholders
from celeb_basis.generate import generate
from celeb_basis.regions import boxes_of, columns, layout, read_by, regional_prompts

PROMPT = "a photo of <ada> and <bo> on the beach"
LEFT, RIGHT, ALL = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0)


def renamed(identity, token):
    return Identity(token, identity.vectors, identity.encoder_dims, identity.fingerprint)


def decoded(pipe, monkeypatch, draw, *args, **options):
    """The latents of the pictures that a call draws, (n, c, h, w): finer than the eight bits of a picture."""
    seen = []
    decode = type(pipe.vae).decode

    def keep(vae, latents, *more, **named):
        seen.append(latents.clone())
        return decode(vae, latents, *more, **named)

    with monkeypatch.context() as patch:
        patch.setattr(type(pipe.vae), "decode", keep)
        draw(*args, num_inference_steps=2, **options)
    return torch.cat(seen)


def draw(pipe, monkeypatch, *args, **options):
    return decoded(pipe, monkeypatch, generate, pipe, *args, **options)


def close(a, b):
    return torch.allclose(a, b, atol=1e-3 * a.abs().max().item())


# Who stands where


@pytest.mark.parametrize(
    ("prompt", "order"),
    [
        ("<ada> and <bo> on the beach", "ada bo"),
        ("<bo> and <ada> on the beach", "bo ada"),
        ("<ada> on the right and <bo> on the left", "bo ada"),
        ("<ada> on the right and <bo>", "bo ada"),
        ("<ada> and <bo> on the left", "bo ada"),
        ("left is <bo>, right is <ada>", "bo ada"),
        ("right is <bo>, left is <ada>", "ada bo"),
        ("on the right <bo> and on the left <ada>", "ada bo"),
        ("<bo> on the right, left is <ada>", "ada bo"),
        ("<bo>, left side is <ada>", "ada bo"),
        ("right: <ada>, left: <bo>", "bo ada"),
        ("a photo of <ada> wearing a red hat on the right side and <bo> on the far left", "bo ada"),
        ("<ada> and <bo>, <ada> on the right", "bo ada"),
        ("<ada> looking right and <bo> looking left with a book in the right hand", "ada bo"),
        ("<bo> and <ada> in the middle", "bo ada"),
        ("<ada> in the middle, <bo> and <cy>", "bo ada cy"),
        ("<ada> in the centre, <bo> on the right and <cy>", "cy ada bo"),
        ("<ada> on the left, <bo> and <cy> in the middle", "ada cy bo"),
        ("<ada>, <bo> and <cy> in the middle of the street", "ada bo cy"),
        ("<ada>, <bo> and <cy> in the middle of the picture", "ada cy bo"),
        ("<cy>, <bo> and <ada> on the left", "ada cy bo"),
        ("<ADA> on the Right and <bo>", "bo ada"),
    ],
)
def test_columns_follow_the_prompt(prompt, order):
    found = columns(prompt, ["<ada>", "<bo>", "<cy>", "<dee>"])
    assert " ".join(name[1:-1] for name in found) == order
    edges = [side for left, _, right, _ in found.values() for side in (left, right)]
    assert edges[0] == 0 and edges[-1] == 1 and edges[1:-1:2] == edges[2::2]
    assert all(box[1::2] == (0, 1) and math.isclose(box[2] - box[0], 1 / len(found)) for box in found.values())


@pytest.mark.parametrize("names", [[], ["<ada>"], ["<ada>", "<cy>"]])
def test_fewer_than_two_people_have_no_columns(names):
    assert columns(PROMPT, names) == {}


def versions(prompts, regions, people):
    boxes = boxes_of(prompts, regions, people)
    return [layout(prompt, own, people) for prompt, own in zip(prompts, boxes, strict=True)]


def test_each_region_reads_its_own_name_in_every_place():
    regions = {"<ada>": ALL, "tom hanks": (0.25, 0.25, 0.75, 0.75)}  # nobody is on a side
    [both, other] = versions(["<ada> and Tom Hanks, not tom hanksford, by <cy>", "<ada>"], regions, ["<ada>", "<cy>"])
    assert both == {
        "<ada> and <ada>, not tom hanksford, by <ada>": regions["<ada>"],
        "tom hanks and tom hanks, not tom hanksford, by tom hanks": regions["tom hanks"],
    }
    assert other == {"<ada>": ALL}
    [longer] = versions(["ann lee on the left, ann on the right"], {"ann": RIGHT, "ann lee": LEFT}, [])
    assert longer == {"ann on the left, ann on the right": RIGHT, "ann lee on the left, ann lee on the right": LEFT}


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("<ada> and <bo> on the beach", "{} on the left and {} on the right on the beach"),
        ("<ada> person and <bo> person", "{} person on the left and {} person on the right"),
        ("<ada> on the right and <bo>", "{} on the left and {} on the right"),
        ("left is <ada> person, right is <bo> person", "{} person on the left, {} person on the right"),
        ("<ada> and <bo>, <ada> smiling", "{} on the left and {} on the right, {} smiling"),
        ("<ada>, <bo> and <cy>", "{} on the left, {} in the middle and {} on the right"),
    ],
)
def test_every_version_says_all_sides(prompt, said):
    [said_to] = versions([prompt], "auto", ["<ada>", "<bo>", "<cy>"])
    names = [name for name in ("<ada>", "<bo>", "<cy>") if name in prompt]
    assert set(said_to) == {said.replace("{}", name) for name in names}


# What a pixel reads


def test_a_pixel_reads_its_own_boxes_or_the_prompt_itself():
    boxes = [[(0.1, 0.2, 0.6, 0.9), (0.3, 0.0, 1.0, 0.5)], [ALL], []]
    for height, width in ((8, 8), (5, 7), (1, 1), (2, 16)):
        reads = read_by(boxes, height, width)
        assert reads.shape == (3, 3, height, width) and reads.any(1).all()
        for i, own in enumerate(boxes):
            for row in range(height):
                for column in range(width):
                    x, y = (column + 0.5) / width, (row + 0.5) / height
                    inside = [left <= x < right and top <= y < bottom for left, top, right, bottom in own]
                    expected = [not any(inside), *inside, *[False] * (2 - len(own))]
                    assert reads[i, :, row, column].tolist() == expected


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (5, 6)])
def test_masked_attention_is_attention_to_each_regions_own_text(pipe, ada, bo, guided, size):
    """Every cross-attention against plain softmax, pixel by pixel, over the states of what the pixel may read."""
    prompts, boxes = [PROMPT, "<bo> and <ada>"], [[LEFT, (0.25, 0.5, 1.0, 1.0)], [RIGHT]]
    versions = [{"<ada> and <ada>": boxes[0][0], "<bo> and <bo>": boxes[0][1]}, {"<ada>": boxes[1][0]}]
    calls = []

    def keep(module, args, kwargs, output):
        calls.append((module, args[0], output))

    modules = [m for name, m in pipe.unet.named_modules() if name.endswith("attn2")]
    hooks = [module.register_forward_hook(keep, with_kwargs=True) for module in modules]
    try:
        with (
            torch.no_grad(),
            placeholders(pipe, {"<ada>": ada.vectors, "<bo>": bo.vectors}),
            regional_prompts(pipe, prompts, versions, "a face") as text,
        ):
            states = text["prompt_embeds"]
            states = torch.cat([text["negative_prompt_embeds"], states]) if guided else states
            more = {}
            if "pooled_prompt_embeds" in text:
                pooled = text["pooled_prompt_embeds"].repeat(1 + guided, 1)
                more = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": torch.ones(len(pooled), 6)}}
            noise = torch.randn(len(states), 4, *size, generator=torch.Generator().manual_seed(0))
            pipe.unet(noise, 10, states, **more)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(calls) >= len(modules) > 0
    length = states.shape[1] // 3
    sizes = {size[0] * size[1]: size, -(-size[0] // 2) * -(-size[1] // 2): (-(-size[0] // 2), -(-size[1] // 2))}
    with torch.no_grad():
        for module, pixels, output in calls:
            height, width = sizes[pixels.shape[1]]
            for i in range(len(pixels)):
                for at in {0, width - 1, height * width // 2, height * width - 1}:
                    x, y = (at % width + 0.5) / width, (at // width + 0.5) / height
                    own = boxes[i % 2]
                    seen = [v for v, (a, b, c, d) in enumerate(own, 1) if a <= x < c and b <= y < d] or [0]
                    read = torch.cat([states[i, v * length : (v + 1) * length] for v in seen])
                    heads = (module.heads, -1)
                    query = module.to_q(pixels[i, at]).unflatten(-1, heads)
                    keys, values = (to(read).unflatten(-1, heads) for to in (module.to_k, module.to_v))
                    weights = (torch.einsum("hd,khd->hk", query, keys) * module.scale).softmax(-1)
                    expected = module.to_out[0](torch.einsum("hk,khd->hd", weights, values).flatten())
                    torch.testing.assert_close(output[i, at], expected, atol=1e-4, rtol=1e-3)


# Pictures


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_one_box_over_everything_is_the_prompt_with_everybody_replaced(pipe, ada, bo, guidance, monkeypatch):
    options = {"guidance_scale": guidance, "height": 16, "width": 24}
    replaced = PROMPT.replace("<bo>", "<ada>")
    whole = draw(pipe, monkeypatch, PROMPT, [ada, bo], regions={"<ADA>": ALL}, negative_prompt="a beach", **options)
    with placeholders(pipe, {"<ada>": ada.vectors, "<bo>": bo.vectors}), torch.no_grad():
        of_prompt, of_replaced = (
            pipe.encode_prompt(text, None, 1, True, "a beach")
            if "text_encoder_2" not in pipe.components
            else pipe.encode_prompt(text, negative_prompt="a beach")
            for text in (PROMPT, replaced)
        )
        # SDXL's pooled text, which belongs to the whole picture, stays that of the prompt.
        text = dict(zip(("prompt_embeds", "negative_prompt_embeds"), of_replaced, strict=False))
        text |= zip(("pooled_prompt_embeds", "negative_pooled_prompt_embeds"), of_prompt[2:], strict=False)
    bare = decoded(pipe, monkeypatch, pipe, **text, generator=torch.Generator().manual_seed(0), **options)
    assert close(whole, bare)
    assert not close(whole, draw(pipe, monkeypatch, PROMPT, [ada, bo], negative_prompt="a beach", **options))
    if len(of_prompt) == 2:
        alone = draw(pipe, monkeypatch, replaced, [ada], negative_prompt="a beach", **options)
        assert close(whole, alone)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("regions", ["auto", {"<ada>": (0.1, 0.3, 0.7, 1.0)}])
def test_regions_of_people_who_are_the_same_change_nothing(pipe, ada, guidance, regions, monkeypatch):
    twins = [ada, renamed(ada, "<bo>")]
    prompt = "a photo of <ada> on the left and <bo> on the right"
    drawn = [draw(pipe, monkeypatch, prompt, twins, guidance_scale=guidance, regions=r) for r in (None, regions)]
    assert close(*drawn)


def test_a_celebrity_is_kept_apart_too(pipe, ada, monkeypatch):
    prompt = f"<ada> and {NAMES[0]}"
    plain = draw(pipe, monkeypatch, prompt, [ada])
    assert close(plain, draw(pipe, monkeypatch, prompt, [ada], regions="auto"))  # one identity needs no columns
    apart_ = draw(pipe, monkeypatch, prompt, [ada], regions={"<ada>": LEFT, NAMES[0]: RIGHT})
    assert not close(plain, apart_)


def test_columns_are_the_boxes_they_say(pipe, ada, bo, monkeypatch):
    prompt = "<ada> on the right, <bo>"
    ours = draw(pipe, monkeypatch, prompt, [ada, bo], regions="auto")
    assert close(ours, draw(pipe, monkeypatch, prompt, [ada, bo], regions={"<ada>": RIGHT, "<bo>": LEFT}))
    assert not close(ours, draw(pipe, monkeypatch, prompt, [ada, bo], regions={"<ada>": LEFT, "<bo>": RIGHT}))


def test_pictures_do_not_depend_on_their_batch(pipe, ada, bo, monkeypatch):
    prompts = [PROMPT, "<ada> on the right and <bo>", "a photo of <ada>", "<bo>"]
    together = draw(pipe, monkeypatch, prompts, [ada, bo], num_images_per_prompt=2, batch_size=3, regions="auto")
    people = {"<ada>": ada, "<bo>": bo}
    alone = [
        draw(pipe, monkeypatch, p, [i for t, i in people.items() if t in p], seed=s, regions="auto")
        for p in prompts
        for s in range(2)
    ]
    assert close(together, torch.cat(alone))
    as_usual = draw(pipe, monkeypatch, "<bo>", [bo])
    assert torch.equal(alone[-2], as_usual)


def test_no_regions_are_no_change_at_all(pipe, ada, bo):
    prompts = [PROMPT, "<bo>"]
    drawn = [generate(pipe, prompts, [ada, bo], num_inference_steps=2, regions=r) for r in (None, {})]
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(*drawn, strict=True))


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_pipeline_is_as_before(pipe, ada, bo, error, monkeypatch):
    before, processors = state_of(pipe), dict(pipe.unet.attn_processors)

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        if error:
            patch.setattr(pipe.unet.mid_block, "forward", fail)
            with pytest.raises(error):
                generate(pipe, PROMPT, [ada, bo], num_inference_steps=2, regions="auto")
        else:
            generate(pipe, PROMPT, [ada, bo], num_inference_steps=2, regions="auto")
    assert state_of(pipe) == before and pipe.unet.attn_processors == processors


def test_any_attention_processor_will_do(pipe, ada, bo, monkeypatch):
    ours = draw(pipe, monkeypatch, PROMPT, [ada, bo], regions="auto")
    processors = dict(pipe.unet.attn_processors)
    try:
        pipe.unet.set_default_attn_processor()
        plain = draw(pipe, monkeypatch, PROMPT, [ada, bo], regions="auto")
        pipe.unet.set_attention_slice(1)
        sliced = draw(pipe, monkeypatch, PROMPT, [ada, bo], regions="auto")
    finally:
        pipe.unet.set_attn_processor(processors)
    assert close(ours, plain) and close(ours, sliced)


def test_half_precision_draws_too():
    pipe = make_pipeline("sd1").to(dtype=torch.bfloat16)
    [picture] = generate(pipe, f"{NAMES[0]} and {NAMES[1]}", regions={NAMES[0]: LEFT, NAMES[1]: RIGHT})
    assert np.asarray(picture).std() > 0


@pytest.mark.parametrize(
    ("regions", "says"),
    [
        ({"<cy>": LEFT}, "nobody called <cy>"),
        ({"tom hanks": LEFT}, "does not mention 'tom hanks'"),
        ({"ada": LEFT}, "does not mention 'ada'"),
        ({"": LEFT}, "does not mention ''"),
        ({"<ada>": (0.5, 0, 0.5, 1)}, "region of <ada> is 0.5,0,0.5,1: give left,top,right,bottom"),
        ({"<ada>": (0, 0, 1.5, 1)}, "0 to 1"),
        ({"<ada>": (-0.5, 0, 0.5, 1)}, "0 to 1"),
        ({"<ada>": (0, 1, 1, 0)}, "0 to 1"),
        ({"<ada>": (0, 0, math.nan, 1)}, "0 to 1"),
        ({"<ada>": (0, 0, 1)}, "0 to 1"),
        ("columns", "or 'auto'"),
    ],
)
def test_regions_that_cannot_be(pipe, ada, bo, regions, says):
    with pytest.raises(PromptError, match=says) as error:
        generate(pipe, PROMPT, [ada, bo], regions=regions)
    assert "\n" not in str(error.value)


def test_every_version_must_fit(pipe, ada):
    long = "a b c d e f g h"
    prompt = f"{long} and <ada> and <ada> and <ada> on"
    with pytest.raises(PromptError, match="too long"):
        generate(pipe, prompt, [ada], num_inference_steps=1, regions={"<ada>": LEFT, long: RIGHT})


@pytest.mark.parametrize("names", [("<ada>", "<ADA>"), ("face", "Face")])
def test_names_that_differ_in_case_alone_are_one_person(pipe, ada, names):
    boxes = {names[0]: (0, 0, 0.5, 1), names[1]: (0.5, 0, 1, 1)}
    with pytest.raises(PromptError, match="case makes no difference"):
        generate(pipe, "<ada> and the face", [ada], regions=boxes, num_inference_steps=1)

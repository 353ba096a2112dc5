"""Drawing defaults: what the card says, then the signs of a distilled model, then the pipeline."""

import logging

import pytest
from conftest import make_pipeline
from diffusers import EulerDiscreteScheduler, LCMScheduler

from celeb_basis import ModelCard, ModelError
from celeb_basis.backend.defaults import drawing_defaults
from celeb_basis.generate import generate
from celeb_basis.known_names import DrawSettings, default_draw_settings

EULER = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def named(name, scheduler=None, card=None):
    pipe = make_pipeline("sd1")
    pipe.register_to_config(_name_or_path=name)
    pipe.card = card or ModelCard()
    pipe.scheduler = scheduler or pipe.scheduler
    return pipe


def trailing():
    return EulerDiscreteScheduler(**EULER, timestep_spacing="trailing")


def leading():
    return EulerDiscreteScheduler(**EULER, timestep_spacing="leading")


@pytest.mark.parametrize(
    ("name", "scheduler", "expected"),
    [
        ("stabilityai/sd-turbo", trailing, (1, 0.0)),
        ("models/SDXL-Lightning-2steps", trailing, (2, 0.0)),
        ("sdxl_lightning_4step.safetensors", leading, (4, 0.0)),  # takes the schedule of SDXL's configuration
        ("ByteDance/Hyper-SD", trailing, (8, 0.0)),
        ("some/dmd2-merge", trailing, (4, 0.0)),
        ("some/model", LCMScheduler, (4, 1.0)),
        ("some/hyper-realism", leading, (50, 7.5)),  # a name alone says nothing
        ("turbo-labs/portraits", trailing, (50, 7.5)),  # nor does that of its owner
        ("some/turbocharged", trailing, (50, 7.5)),
        ("some/model", trailing, (50, 7.5)),
    ],
)
def test_signs_of_a_distilled_model(name, scheduler, expected):
    defaults = drawing_defaults(named(name, scheduler()))
    assert defaults[:2] == expected
    assert bool(defaults.reason) == (expected != (50, 7.5))


def test_a_card_overrules():
    pipe = named("sd-turbo", trailing(), ModelCard(num_inference_steps=3))
    assert drawing_defaults(pipe)[:2] == (3, 0.0)
    pipe.card = ModelCard(num_inference_steps=6, guidance_scale=2)
    assert drawing_defaults(pipe) == (6, 2, "")
    assert default_draw_settings(pipe) == [DrawSettings()]  # it is still distilled
    pipe.card = ModelCard(guidance_scale=0)
    pipe.scheduler = leading()
    assert drawing_defaults(pipe)[:2] == (50, 0)
    with pytest.raises(ModelError, match="guidance_scale"):
        ModelCard(guidance_scale=-1)


def test_a_negative_prompt_that_has_no_effect_is_named(caplog):
    pipe = named("sd-turbo", trailing())
    with caplog.at_level(logging.WARNING, logger="celeb_basis"):
        plain, same, other = (
            generate(pipe, "a photo", **options)[0].tobytes()
            for options in (
                {"guidance_scale": 0},
                {"negative_prompt": "the beach"},
                {"negative_prompt": "the beach", "guidance_scale": 2},
            )
        )
    assert plain == same != other
    [line] = [record.message for record in caplog.records]
    assert "at guidance 0 the negative prompt has no effect" in line

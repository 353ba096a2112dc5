"""The denoiser of each family: what it refuses, and how it names its weights."""

import pytest
import torch
from conftest import make_pipeline
from diffusers import EDMEulerScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from celeb_basis import ModelError
from celeb_basis.backend.families import get_denoiser
from celeb_basis.backend.load import load_pipeline
from celeb_basis.backend.text_encoders import encode, token_ids
from celeb_basis.backend.unet import SDXLDenoiser


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchEulerDiscreteScheduler(),
        EDMEulerScheduler(),
        UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
    ],
)
def test_a_scheduler_of_another_kind_is_refused(scheduler, tmp_path):
    pipe = make_pipeline("sd1")
    pipe.scheduler = scheduler
    with pytest.raises(ModelError, match=type(scheduler).__name__):
        get_denoiser(pipe)
    pipe.save_pretrained(tmp_path / "sd")
    with pytest.raises(ModelError, match="under a schedule of betas"):
        load_pipeline(tmp_path / "sd", device="cpu")


def test_sizes_are_the_models_own(pipe):
    denoiser = get_denoiser(pipe)
    assert isinstance(denoiser, SDXLDenoiser) == hasattr(pipe, "text_encoder_2")
    assert (denoiser.vae_scale_factor, denoiser.resolution, denoiser.in_channels) == (2, 16, 4)
    assert len(denoiser.cross_attention()) == sum(n.endswith(".attn2") for n, _ in pipe.unet.named_modules()) > 0


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_the_estimates_are_the_truth_where_the_network_is_right(kind):
    """A network that answers the target estimates the clean latents and the noise exactly."""
    pipe = make_pipeline(kind)
    latents = torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states, pooled = encode(pipe, token_ids(pipe, ["a photo"]))
        seen = get_denoiser(pipe).predict(latents, states, pooled, [torch.Generator().manual_seed(1)])
    object.__setattr__(seen, "output", seen.target)
    torch.testing.assert_close(seen.estimated_clean, seen.clean, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(seen.estimated_noise, seen.noise, atol=1e-3, rtol=1e-3)
    assert seen.error().item() == 0


def test_weights_have_a_name_of_their_own():
    pipe = make_pipeline("sd1")
    name = get_denoiser(pipe).digest
    assert get_denoiser(make_pipeline("sd1")).digest == name
    assert get_denoiser(make_pipeline("sd1", seed=1)).digest != name
    pipe.unet.half()
    assert get_denoiser(pipe).digest == name
    with torch.no_grad():
        pipe.unet.conv_out.weight[0, 0, 0, 0] *= -1
    assert get_denoiser(pipe).digest != name

"""RBF-Solver: its weights, its limits, and its order on data whose trajectories are known."""

import math

import numpy as np
import pytest
import torch
from conftest import state_of
from diffusers import DDIMScheduler, UniPCMultistepScheduler

from celeb_basis.backend.rbf_solver import RBFSolverScheduler, integrated
from celeb_basis.backend.schedulers import get_scheduler

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "timestep_spacing": "trailing"}
EVEN = SCHEDULE | {"use_exponential_sigmas": True, "final_sigmas_type": "sigma_min"}  # steps of one length
MEAN, STD = 0.7, 0.3  # of Gaussian data


@pytest.mark.parametrize("shape", [0.02, 0.3, 1.0, 20.0])
@pytest.mark.parametrize("length", [0.1, 3.0])
def test_weights_integrate_their_own_functions(shape, length):
    """Exactly constants, and differences of the Gaussians, as a fine sum does."""
    nodes = torch.tensor([0.4, -1.0, -1.7], dtype=torch.float64) * length
    weights = integrated(nodes, length, shape)
    s = length * ((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000 - 1)

    def gaussians(x):
        return torch.exp(-((shape / length * (x[:, None] - nodes)) ** 2))

    assert weights.sum() == pytest.approx(1 - math.exp(-length))
    sums = (s.exp()[:, None] * gaussians(s)).mean(0) * length
    assert (weights @ gaussians(nodes)).diff().numpy() == pytest.approx(sums.diff().numpy(), rel=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_flat_gaussians_are_polynomials(count):
    nodes = torch.tensor([0.0, -1.0, -2.2, -3.1], dtype=torch.float64)[:count]
    flat = integrated(nodes, 1.0, 0.0)
    s = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000 - 1
    for power in range(count):
        assert flat @ nodes**power == pytest.approx(float((s.exp() * s**power).mean()), abs=1e-9)
    assert torch.allclose(integrated(nodes, 1.0, 0.011), flat, atol=1e-3)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow_prediction"])
def test_its_limit_is_unipc_of_order_three(kind):
    """Of order three, where it takes no short cut, UniPC is the Adams method as well."""
    config = SCHEDULE | {"solver_order": 3, "prediction_type": kind, "use_flow_sigmas": kind == "flow_prediction"}
    generator = torch.Generator().manual_seed(0)
    x, *seen = torch.randn(6, 1, 2, 3, 3, generator=generator, dtype=torch.float64)
    steps = []
    for kind in (UniPCMultistepScheduler, RBFSolverScheduler):
        scheduler = kind(**config)
        scheduler.set_timesteps(9)
        scheduler.set_begin_index(5)
        scheduler._step_index, scheduler.model_outputs = 5, seen[:3]
        predicted = scheduler.multistep_uni_p_bh_update(seen[0], sample=x, order=3)
        corrected = scheduler.multistep_uni_c_bh_update(
            this_model_output=seen[3], last_sample=x, this_sample=predicted, order=3
        )
        steps.append((predicted, corrected, scheduler.convert_model_output(seen[4], sample=x)))
    for theirs, ours in zip(*steps, strict=True):
        assert torch.allclose(theirs, ours, atol=1e-5)


def test_of_order_one_its_predictor_is_ddim():
    x, e = torch.randn(2, 1, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pictures = []
    for scheduler in (DDIMScheduler(**SCHEDULE, clip_sample=False), RBFSolverScheduler(**SCHEDULE, solver_order=1)):
        scheduler.set_timesteps(5)
        pictures.append(scheduler.step(e, scheduler.timesteps[0], x).prev_sample)
    assert torch.allclose(*pictures, atol=1e-5)


def error(order, steps, kind="epsilon", shapes=None):
    """How far from the exact trajectory of Gaussian data a sampler ends, whose denoiser is exact as well."""
    scheduler = RBFSolverScheduler(**EVEN, solver_order=order, prediction_type=kind, shapes=shapes)
    scheduler.set_timesteps(steps)
    z = torch.linspace(-2, 2, 5, dtype=torch.float64)[None]

    def levels(i):
        alpha = 1 / (1 + scheduler.sigmas[i].double() ** 2).sqrt()
        return alpha, scheduler.sigmas[i].double() * alpha

    def exact(i):
        alpha, sigma = levels(i)
        return alpha * MEAN + (alpha**2 * STD**2 + sigma**2).sqrt() * z

    x = exact(0)
    for i, t in enumerate(scheduler.timesteps):
        alpha, sigma = levels(i)
        clean = (STD**2 * alpha * x + sigma**2 * MEAN) / (alpha**2 * STD**2 + sigma**2)
        noise = (x - alpha * clean) / sigma
        x = scheduler.step(noise if kind == "epsilon" else alpha * noise - sigma * clean, t, x).prev_sample
    return float((x - exact(-1)).abs().max())


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_corrector_makes_it_one_order_better(order, kind):
    errors = [error(order, steps, kind) for steps in (20, 40, 80)]
    assert np.log2(errors[0] / errors[2]) / 2 > order + 0.9


def test_shapes_are_those_of_the_number_of_steps(tmp_path):
    shapes = {"10": [(1.0, 0.5)] * 10}
    assert error(2, 10, shapes=shapes) != error(2, 10)
    assert error(2, 20, shapes=shapes) == error(2, 20)
    RBFSolverScheduler(**EVEN, shapes=shapes).save_pretrained(tmp_path)
    again = RBFSolverScheduler.from_pretrained(tmp_path)
    assert again.config.shapes == {"10": [[1.0, 0.5]] * 10}
    # A model's own scheduler hands them on, too.
    other = DDIMScheduler.from_config(again.config)
    assert RBFSolverScheduler.from_config(other.config).config.shapes == again.config.shapes


def test_it_draws_with_any_pipeline(pipe):
    before, own = state_of(pipe), pipe.scheduler

    def draw():
        g = torch.Generator().manual_seed(0)
        return pipe("a photo", num_inference_steps=4, generator=g, output_type="np").images

    pictures = {}
    try:
        for sampler in ("unipc", "rbf"):
            pipe.scheduler = own
            pipe.scheduler = get_scheduler(pipe, sampler)
            pictures[sampler] = draw()
    finally:
        pipe.scheduler = own
    assert 0 < np.abs(pictures["unipc"] - pictures["rbf"]).max() < 0.2
    assert state_of(pipe) == before

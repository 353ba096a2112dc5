"""The search for shapes of RBF-Solver: each step takes the one that comes nearest to its target."""

import torch
from rbf_shapes import SHAPES, Searching, at, search

from celeb_basis.backend.rbf_solver import RBFSolverScheduler

SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "timestep_spacing": "trailing"}


def test_samples_between_levels_are_interpolated():
    levels, samples = [800, 400, 0], [torch.tensor(8.0), torch.tensor(4.0), torch.tensor(0.0)]
    assert [float(at(t, levels, samples)) for t in (800, 600, 400, 100, 0)] == [8, 6, 4, 1, 0]


def draw(scheduler, steps, callback=None):
    """Data on two points, -1 and 1, whose denoiser is known and far from a polynomial in the noise level."""
    scheduler.set_timesteps(steps)
    alphas = scheduler.alphas_cumprod.double()
    x = torch.linspace(-2, 2, 8, dtype=torch.float64)[None]
    for i, t in enumerate(scheduler.timesteps):
        alpha, sigma = alphas[t].sqrt(), (1 - alphas[t]).sqrt()
        clean = torch.tanh(alpha * x / sigma**2)
        x = scheduler.step((x - alpha * clean) / sigma, t, x).prev_sample
        if callback:
            callback(None, i, t, {"latents": x})
    return x


def test_each_step_takes_the_shape_that_comes_nearest():
    """A step whose target is what one of the shapes leads to finds this shape."""
    scheduler = Searching(**SCHEDULE)
    scheduler.set_timesteps(5)
    sample, *pictures = torch.randn(3, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for shape in SHAPES[::8]:
        target = RBFSolverScheduler._between(scheduler, 2, sample, [2, 1], pictures, shape)
        scheduler.targets, scheduler.found = [target] * 5, [[0.0, 0.0] for _ in range(5)]
        assert scheduler._between(2, sample, [2, 1], pictures, 0.0).equal(target)
        assert scheduler.found[2] == [shape, 0.0]


def test_a_search_gives_shapes_for_every_step():
    found = search(draw, SCHEDULE, [3, 5], 60)
    assert [len(found[count]) for count in ("3", "5")] == [3, 5]
    assert {shape for steps in found.values() for pair in steps for shape in pair} <= set(SHAPES)
    RBFSolverScheduler(**SCHEDULE, shapes=found).set_timesteps(5)

"""RBF-Solver: a scheduler for diffusers that steps between noise levels by radial basis functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler
from diffusers.configuration_utils import register_to_config
from torch import Tensor

FLAT = 0.01  # a shape below which Gaussians and polynomials differ by less than 1e-4, and the system is ill-conditioned

Shapes = Sequence[tuple[float, float]]


class RBFSolverScheduler(UniPCMultistepScheduler):  # type: ignore[misc]
    """A multistep predictor-corrector with one evaluation of the model in a step.

    Between two noise levels the image that the model predicts is interpolated over half the log signal-to-noise ratio,
    and the interpolant is integrated exactly. It is the sum of a constant and a Gaussian at each known level: the last
    `solver_order` for the predictor, and also the next one for the corrector.

    shapes: for a number of steps, as text, the shape of the Gaussians in each step: (predictor's, corrector's). A
    shape is the length of the step divided by the Gaussians' width. At 0, and for numbers of steps that are not
    listed, the interpolant is a polynomial, and the method is Adams'. The other arguments are those of UniPC.

    Source: Park et al., "RBF-Solver: A Multistep Sampler for Diffusion Probabilistic Models via Radial Basis
    Functions" (2026). Its gamma is 1 / shape.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Sequence[float] | None = None,
        solver_order: int = 2,
        prediction_type: str = "epsilon",
        lower_order_final: bool = True,
        use_karras_sigmas: bool = False,
        use_exponential_sigmas: bool = False,
        use_beta_sigmas: bool = False,
        use_flow_sigmas: bool = False,
        flow_shift: float = 1.0,
        timestep_spacing: str = "linspace",
        steps_offset: int = 0,
        final_sigmas_type: str = "zero",
        rescale_betas_zero_snr: bool = False,
        use_dynamic_shifting: bool = False,
        shapes: Mapping[str, Shapes] | None = None,
    ) -> None:
        super().__init__(
            num_train_timesteps=num_train_timesteps,
            beta_start=beta_start,
            beta_end=beta_end,
            beta_schedule=beta_schedule,
            trained_betas=trained_betas,
            solver_order=solver_order,
            prediction_type=prediction_type,
            lower_order_final=lower_order_final,
            use_karras_sigmas=use_karras_sigmas,
            use_exponential_sigmas=use_exponential_sigmas,
            use_beta_sigmas=use_beta_sigmas,
            use_flow_sigmas=use_flow_sigmas,
            flow_shift=flow_shift,
            timestep_spacing=timestep_spacing,
            steps_offset=steps_offset,
            final_sigmas_type=final_sigmas_type,
            rescale_betas_zero_snr=rescale_betas_zero_snr,
            use_dynamic_shifting=use_dynamic_shifting,
        )

    def multistep_uni_p_bh_update(
        self, model_output: Tensor, *args: Any, sample: Tensor, order: int, **kwargs: Any
    ) -> Tensor:
        """Return the sample at the next noise level, from the last `order` known levels."""
        known = range(self.step_index, self.step_index - order, -1)
        images = list(reversed(self.model_outputs))[:order]
        return self._between(self.step_index, sample, known, images, self._shape(self.step_index, 0))

    def multistep_uni_c_bh_update(
        self, this_model_output: Tensor, *args: Any, last_sample: Tensor, this_sample: Tensor, order: int, **kwargs: Any
    ) -> Tensor:
        """Return the corrected sample at this noise level, now that the model's prediction there is known."""
        known = [self.step_index, *range(self.step_index - 1, self.step_index - 1 - order, -1)]
        images = [this_model_output, *list(reversed(self.model_outputs))[:order]]
        return self._between(self.step_index - 1, last_sample, known, images, self._shape(self.step_index - 1, 1))

    def _shape(self, step: int, which: int) -> float:
        """Return the shape that is configured for a step: 0 of the predictor, 1 of the corrector."""
        own = (self.config.shapes or {}).get(str(self.num_inference_steps))
        return float(own[step][which]) if own else 0.0

    def _between(
        self, step: int, sample: Tensor, known: Sequence[int], images: Sequence[Tensor], shape: float
    ) -> Tensor:
        """Go from noise level `step` to the next, with the images that the model predicts at the `known` levels."""
        alpha, sigma = self._sigma_to_alpha_sigma_t(self.sigmas.double())
        level = (alpha / sigma).log()
        if sigma[step + 1] == 0:  # without noise the image is what the model predicts at the last level
            return images[0] * float(alpha[step + 1])
        nodes = level[list(known)] - level[step + 1]
        weights = integrated(nodes, float(level[step + 1] - level[step]), shape) * alpha[step + 1]
        result = sample * float(sigma[step + 1] / sigma[step])
        for weight, image in zip(weights.tolist(), images, strict=True):
            result = result + image * weight
        return result.to(sample.dtype)


def integrated(nodes: Tensor, length: float, shape: float) -> Tensor:
    """Return weights (n,) of values at `nodes` (n,) that integrate exp(s) times their interpolant over -length..0.

    float64, as close nodes and flat Gaussians make an ill-conditioned system.
    """
    n = len(nodes)
    whole = -math.expm1(-length)
    if n == 1:
        return torch.full_like(nodes, whole)
    if shape < FLAT:  # the moments of exp(s) must be those of the weights
        ends = [whole]
        for k in range(1, n):
            ends.append(-((-length) ** k) * math.exp(-length) - k * ends[-1])
        powers = torch.stack([nodes**k for k in range(n)])
        flat: Tensor = torch.linalg.solve(powers, torch.tensor(ends, dtype=nodes.dtype))
        return flat
    beta = shape / length
    system = nodes.new_ones(n + 1, n + 1)
    system[n, n] = 0
    system[:n, :n] = torch.exp(-((beta * (nodes[:, None] - nodes)) ** 2))
    right = torch.cat([_gaussian(nodes, beta, length), nodes.new_tensor([whole])])
    solved: Tensor = torch.linalg.solve(system, right)
    return solved[:n]


def _gaussian(nodes: Tensor, beta: float, length: float) -> Tensor:
    """Return the integral of exp(s - beta^2 (s - node)^2) over s in -length..0 for each node.

    It is a difference of error functions, written with the scaled ones so that nothing overflows where it is flat.
    """
    shift = 1 / (2 * beta)
    first, last = beta * (-length - nodes) - shift, -beta * nodes - shift
    low = torch.exp(-length - (beta * (length + nodes)) ** 2) * torch.special.erfcx(first.abs())
    high = torch.exp(-((beta * nodes) ** 2)) * torch.special.erfcx(last.abs())
    across = 2 * torch.exp(nodes + shift**2)
    inside = torch.where(last <= 0, high - low, torch.where(first >= 0, low - high, across - low - high))
    return inside * math.sqrt(math.pi) / (2 * beta)

"""Blocks for modular diffusers: fit a person, and insert people into the prompt of a pipeline."""

from __future__ import annotations

from typing import Any

from diffusers import ModularPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import InputParam, OutputParam

from celeb_basis import Identity, Model
from celeb_basis.backend.text_encoders import expanded, placeholders

PEOPLE = InputParam("people", type_hint=list[Identity], description="the people whom the prompt may name")


class FitPerson(ModularPipelineBlocks):
    """Learn the person of a photograph, and add them to the people whom the prompt may name.

    model: of the same parts as the pipeline that the block is in.
    recipe: of the fit, such as max_train_steps=50.
    """

    def __init__(self, model: Model, **recipe: Any) -> None:
        super().__init__()
        self._model, self._recipe = model, recipe

    @property
    def inputs(self) -> list[InputParam]:
        """Return what a call may give."""
        photo = InputParam("photo", required=True, description="one photograph of the person, or a list of several")
        return [photo, InputParam("name", required=True, description="annika is <annika> in the prompt"), PEOPLE]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """Return what later blocks find."""
        return [OutputParam("people", type_hint=list[Identity])]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Fit, and add the person."""
        block = self.get_block_state(state)
        fitted = self._model.fit(block.photo, block.name, **self._recipe)
        block.people = [*(block.people or []), fitted]
        self.set_block_state(state, block)
        return components, state


class InsertPeople(ModularPipelineBlocks):
    """A pipeline's own text encoder step, for which the tokens of people in the prompt mean them.

    step: the block that reads prompts, such as `blocks.sub_blocks["text_encoder"]`, whose place this one takes.
    """

    def __init__(self, step: ModularPipelineBlocks) -> None:
        super().__init__()
        self._step, self.model_name = step, step.model_name

    @property
    def expected_components(self) -> list[Any]:
        """Return the components of the step."""
        return self._step.expected_components

    @property
    def expected_configs(self) -> list[Any]:
        """Return the configuration of the step."""
        return self._step.expected_configs

    @property
    def inputs(self) -> list[InputParam]:
        """Return the step's own inputs, and the people."""
        return [*self._step.inputs, PEOPLE]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """Return what the step leaves for later blocks."""
        return self._step.intermediate_outputs

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Read the prompts; the text encoders are as before afterwards."""
        people = state.get("people") or []
        for identity in people:
            identity.check(components)
        with placeholders(components, {identity.placeholder_token: identity.vectors for identity in people}):
            for name in ("prompt", "negative_prompt"):
                if given := state.get(name):
                    written = expanded(components, [given] if isinstance(given, str) else given)
                    state.set(name, written[0] if isinstance(given, str) else written)
            return self._step(components, state)

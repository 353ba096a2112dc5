"""What the library needs of a diffusers pipeline, and what it reads off one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .card import ModelCard


class Pipeline(Protocol):
    """A text-to-image pipeline of diffusers, as far as every family has the same parts."""

    config: Any
    components: dict[str, Any]
    scheduler: Any
    vae: Any
    vae_scale_factor: int
    tokenizer: Any
    text_encoder: Any
    device: Any
    _execution_device: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Draw pictures."""
        ...

    def encode_prompt(self, *args: Any, **kwargs: Any) -> Any:
        """Turn prompts into what the denoiser reads."""
        ...

    def set_progress_bar_config(self, **options: Any) -> None:
        """Say how progress is shown."""
        ...

    def register_to_config(self, **values: Any) -> None:
        """Note something in the pipeline's configuration."""
        ...

    def maybe_convert_prompt(self, prompt: str, tokenizer: Any) -> str:
        """Write out tokens that stand for several vectors."""
        ...


def model_name(pipe: Pipeline) -> str:
    """The name under which the model was loaded, for metadata and messages."""
    return str(pipe.config.get("_name_or_path") or type(pipe).__name__)


def model_card(pipe: Pipeline) -> ModelCard:
    """The card that was loaded with the model, or an empty one."""
    from .card import ModelCard

    return getattr(pipe, "card", None) or ModelCard()

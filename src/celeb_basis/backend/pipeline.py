"""What the library needs of a diffusers pipeline, and what it reads off one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .card import ModelCard
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TypeVar
from weakref import WeakKeyDictionary


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


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Hide warnings about sound models, reports that our errors replace, and each attempt at the hub."""
    from diffusers.utils import logging
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    before = [(each, each.get_verbosity()) for each in (logging, hub_logging, transformers_logging)]
    try:
        for each, _ in before:
            each.set_verbosity_error()
        yield
    finally:
        for each, verbosity in before:
            each.set_verbosity(verbosity)


Step = TypeVar("Step")

_locks: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()
_making = threading.Lock()


@contextmanager
def pipeline_lock(pipe: Pipeline) -> Iterator[None]:
    """Have a pipeline to oneself inside the block; other threads wait. Blocks of one thread may be nested.

    Pipelines that share their text encoder, as those made from one another's parts do, share the turn too.
    """
    with _making:
        lock = _locks.setdefault(pipe.text_encoder, threading.RLock())
    with lock:
        yield


def locked_steps(pipe: Pipeline, steps: Iterator[Step]) -> Iterator[Step]:
    """Take each step with the pipeline to oneself; between two steps others may have it."""
    with closing(steps):  # type: ignore[type-var]
        while True:
            with pipeline_lock(pipe):
                step = next(steps, None)
            if step is None:
                return
            yield step

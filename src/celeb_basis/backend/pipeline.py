"""A pipeline of diffusers: what the library needs of one, its name and card, its lock, and hooks that are undone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

import torch
from accelerate.hooks import CpuOffload
from torch import Tensor, nn

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
        """Draw images."""
        ...

    def encode_prompt(self, *args: Any, **kwargs: Any) -> Any:
        """Encode prompts as the denoiser reads them."""
        ...

    def set_progress_bar_config(self, **options: Any) -> None:
        """Set how progress is shown."""
        ...

    def register_to_config(self, **values: Any) -> None:
        """Write values into the pipeline's configuration."""
        ...

    def maybe_convert_prompt(self, prompt: str, tokenizer: Any) -> str:
        """Write out the tokens that stand for several vectors."""
        ...


def model_name(pipe: Pipeline) -> str:
    """Return the name under which the model was loaded, for metadata and messages."""
    return str(pipe.config.get("_name_or_path") or type(pipe).__name__)


def model_card(pipe: Pipeline) -> ModelCard:
    """Return the card that was loaded with the model, or an empty one."""
    return getattr(pipe, "card", None) or ModelCard()


def signs(weight: Tensor) -> Any:
    """Return which numbers of a weight are negative, as an array of NumPy; rounding changes no sign."""
    weight = weight.detach()
    if weight.dtype.itemsize == 1 and weight.is_floating_point():  # of which PyTorch asks no signs
        weight = weight.bfloat16()
    return torch.signbit(weight).cpu().numpy()


# Where the weights of a network are while they are not needed; in the last case in another precision.
IN_TURN, BY_LAYER, IN_GROUPS, CAST = "model offload", "sequential offload", "group offload", "layerwise casting"


def weight_storage(network: nn.Module) -> set[str]:
    """Return which of IN_TURN, BY_LAYER, IN_GROUPS and CAST accelerate and diffusers do with a network's weights."""
    found: set[str] = set()
    for module in network.modules():
        own = getattr(module, "_hf_hook", None)
        for fetched in getattr(own, "hooks", [own]):
            if isinstance(fetched, CpuOffload):
                found.add(IN_TURN)
            elif getattr(fetched, "offload", False):
                found.add(BY_LAYER)
        names = getattr(getattr(module, "_diffusers_hook", None), "hooks", {})
        found |= {
            what for name, what in (("group_offloading", IN_GROUPS), ("layerwise_casting", CAST)) if name in names
        }
    return found


def plain(module: Any) -> Any:
    """Return the module itself where torch.compile made another of it."""
    return getattr(module, "_orig_mod", module)


def uncompile(undo: ExitStack, pipe: Pipeline, part: str) -> None:
    """Let a part of a pipeline run as it was before torch.compile, until `undo` is closed.

    Compiled code does not look for hooks that come after it.
    """
    own = getattr(pipe, part)
    if plain(own) is not own:
        undo.callback(setattr, pipe, part, own)
        setattr(pipe, part, plain(own))
    for module in list(plain(own).modules()):
        for name, child in list(module.named_children()):
            if plain(child) is not child:
                undo.callback(setattr, module, name, child)
                setattr(module, name, plain(child))
        if module._compiled_call_impl is not None:
            undo.callback(setattr, module, "_compiled_call_impl", module._compiled_call_impl)
            module._compiled_call_impl = None


def has_safety_checker(pipe: Pipeline) -> bool:
    """Return whether a pipeline makes pictures black that its checker objects to."""
    return getattr(pipe, "safety_checker", None) is not None


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Hide the libraries' warnings about models that work, and their reports of what our errors say."""
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
_locks_guard = threading.Lock()


@contextmanager
def pipeline_lock(pipe: Pipeline) -> Iterator[None]:
    """Keep other threads from a pipeline inside the block. Blocks of one thread may be nested.

    Pipelines that share their text encoder, as those made of one another's parts do, share the lock too.
    """
    with _locks_guard:
        lock = _locks.setdefault(plain(pipe.text_encoder), threading.RLock())
    with lock:
        yield


def locked_steps(pipe: Pipeline, steps: Iterator[Step]) -> Iterator[Step]:
    """Lock the pipeline during each step; between two steps other threads may use it."""
    with closing(steps):  # type: ignore[type-var]
        while True:
            with pipeline_lock(pipe):
                step = next(steps, None)
            if step is None:
                return
            yield step


def hook(undo: ExitStack, register: Callable[..., Any], call: Callable[..., Any], **options: Any) -> None:
    """Register `call` with a module's `register`, such as `module.register_forward_hook`, until `undo` is closed.

    The way back is prepared first: on Ctrl-C the handle that PyTorch returns may be lost.
    """
    module: nn.Module = register.__self__  # type: ignore[attr-defined]
    undo.callback(_unhook, module, call)
    register(call, **options)


def _unhook(module: nn.Module, call: Callable[..., Any]) -> None:
    for table in (module._forward_pre_hooks, module._forward_hooks):
        for key in [key for key, known in table.items() if known is call]:
            for each in (table, module._forward_pre_hooks_with_kwargs, module._forward_hooks_with_kwargs):
                each.pop(key, None)

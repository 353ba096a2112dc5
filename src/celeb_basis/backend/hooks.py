"""Hooks that are gone after a block, wherever Ctrl-C falls."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from torch import nn


def hook(undo: ExitStack, register: Callable[..., Any], call: Callable[..., Any], **options: Any) -> None:
    """Register `call` with a module's `register`, such as `module.register_forward_hook`, until `undo` is closed.

    What undoes it is in place before it is done: the handle that PyTorch returns could be lost on its way.
    """
    module: nn.Module = register.__self__  # type: ignore[attr-defined]
    undo.callback(_unhook, module, call)
    register(call, **options)


def _unhook(module: nn.Module, call: Callable[..., Any]) -> None:
    for table in (module._forward_pre_hooks, module._forward_hooks):
        for key in [key for key, known in table.items() if known is call]:
            for each in (table, module._forward_pre_hooks_with_kwargs, module._forward_hooks_with_kwargs):
                each.pop(key, None)

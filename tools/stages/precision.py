"""Which precision a machine computes fast in."""

from __future__ import annotations

from functools import cache

import torch


@cache
def fast_dtype(kind: str) -> torch.dtype:
    """Return bfloat16 where a device of this kind computes in it: on other CPUs it is far slower than float32."""
    if kind != "cpu":
        return torch.bfloat16
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32


def autocast(device: str) -> torch.autocast:
    """Return a context in which networks compute in the device's fast precision."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=fast_dtype(kind) == torch.bfloat16)

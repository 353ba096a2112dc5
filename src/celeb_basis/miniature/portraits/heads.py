"""Photographed heads, cut out, and how they are laid into a picture.

A head is measured in half heights from its centre, `u` to the right and `v` down, as the drawn world's people are: in
a cut-out the eyes lie at (70, 84) and (106, 84), their distance is .6 of the half height, and they lie at v = -.07.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

WIDTH, HEIGHT = 176, 200
HALF = 60.0
"""Half the height of a head in a cut-out, in pixels."""
CENTRE = (88.0, 88.2)
"""Where u and v are 0 in a cut-out."""
CROP_REACH = 1.2
"""How many half heights a face crop reaches from the head's centre."""


@dataclass
class Heads:
    """Cut-outs of photographs, one a row, and what is known of each.

    rgb: bytes `(n, 3, 200, 176)`. whole, head, front: masks `(n, 200, 176)` in bytes, of the person; of the head with
    its hair and neck; and of what lies over a collar, the face and the hair.
    crops: face crops with their own background, bytes `(n, 3, 160, 160)`.
    skin: colour `(n, 3)` in [0, 1]. breadth: half the head's width under a hat. person: whose it is. celebrity:
    the rank of fame, -1 for people who are kept for evaluation. smiling, yaw: marks of a face mesh.
    """

    rgb: Tensor
    whole: Tensor
    head: Tensor
    front: Tensor
    crops: Tensor
    skin: Tensor
    breadth: Tensor
    person: Tensor
    celebrity: Tensor
    smiling: Tensor
    yaw: Tensor

    def __len__(self) -> int:
        return len(self.skin)

    def laid(
        self, masks: tuple[str, ...], picture: Tensor, mirrored: Tensor, x: Tensor, y: Tensor, half: Tensor,
        height: int, width: int,
    ) -> Tensor:  # fmt: skip
        """Return colours and masks `(n, 3 + len(masks), height, width)` in [0, 1] of heads laid into a picture.

        x, y, half: each head's centre and half height in pixels. The first of `masks` holds all others.
        """
        layers = torch.stack([getattr(self, name)[picture] for name in masks], 1).float() / 255
        colours = self.rgb[picture].float() / 255 * layers[:, :1]
        down = resampling(y, half / HALF, CENTRE[1], HEIGHT, height)
        across = resampling(x, half / HALF, CENTRE[0], WIDTH, width)
        across = torch.where(mirrored.bool()[:, None, None], across.flip(-1), across)
        laid = down[:, None] @ torch.cat([colours, layers], 1) @ across.mT[:, None]
        return torch.cat([laid[:, :3] / laid[:, 3:4].clamp(min=1e-3), laid[:, 3:]], 1).clamp(0, 1)


def resampling(centre: Tensor, scale: Tensor, origin: float, old: int, new: int) -> Tensor:
    """Return matrices `(n, new, old)` that scale lines of pixels without aliasing, `origin` to `centre`."""
    at = (torch.arange(new) + 0.5 - centre[:, None]) / scale[:, None] + origin
    reach = (1 / scale).clamp(min=1)[:, None, None]
    distance = (torch.arange(old) + 0.5 - at[..., None]).abs()
    return (1 - distance / reach).clamp(min=0) / reach

"""The scenes that photographed people stand in, and the captions that say what is seen."""

from __future__ import annotations

import torch
from torch import Tensor

from ..drawn import captions
from ..drawn.world import EXPRESSIONS, FRAMINGS, POSES, Scene
from .heads import Heads

ASIDE = 0.12
"""Yaw from which on somebody looks aside."""
OF_A_HEAD = {"expression": EXPRESSIONS, "pose": POSES}
"""What each photograph has of its own."""


class Sampler(captions.Sampler):
    """Draws scenes of photographed people and their captions from one stream of random numbers."""

    def __init__(self, seed: int, heads: Heads, said: float = 0.92) -> None:
        super().__init__(seed, said)
        self._heads = heads

    def scenes(self, picture: Tensor) -> Scene:
        """Return a scene for each row of numbers of photographs, `(n, 1 to 3)`."""
        # Who looks aside may look to either side; nobody else is mirrored, so that a face has a left and a right.
        mirrored = (torch.rand(picture.shape, generator=self._torch) < 0.5) & (self._heads.yaw[picture].abs() > ASIDE)
        scene = super().scenes(torch.stack([picture, mirrored], -1))
        scene.expression = self._heads.smiling[picture].long() * EXPRESSIONS.index("smiling")
        yaw = self._heads.yaw[picture] * torch.where(mirrored, -1.0, 1.0)
        scene.pose = torch.where(yaw > ASIDE, POSES.index("right"), torch.where(yaw < -ASIDE, POSES.index("left"), 0))
        return scene

    def captions(self, scene: Scene, names: list[tuple[str, ...]]) -> list[str]:
        """Return one caption a scene; what a head has of its own is said where all people in it have it alike."""
        columns = {key: getattr(scene, key).reshape(len(scene), -1).tolist() for key in captions.WORDS}
        framing = scene.framing.tolist()
        said = []
        for i in range(len(scene)):
            values = {
                key: column[i][0] for key, column in columns.items() if key not in OF_A_HEAD or len(set(column[i])) == 1
            }
            said.append(self._caption(values, FRAMINGS[framing[i]], names[i]))
        return said

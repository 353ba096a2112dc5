"""How good a photograph of a face is: what would make the likeness suffer, and what would be better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .align import align_arcface, alignment
from .detect import Detection

# Below (or above) these a face of the same photograph is described otherwise: the cosine with the good original is
# about .8 (benchmarks/results/faces.md).
SMALL = 40  # pixels from forehead to chin
BLURRED = 0.1  # sharpness
TURNED = 0.4  # offset of the nose, which a head turned by about 35 degrees has
CUT = 0.1  # share of the face outside the photograph
GLARE = 0.3  # share of the face that is white
GOOD = 100  # pixels from which size does not matter any more


@dataclass(frozen=True)
class Quality:
    """What can be seen of a face.

    height: of the face in pixels.
    sharpness: spread of the Laplacian over the spread of brightness, where recognisers look; .4 and more is usual.
    turn: how far the nose is from the middle between eyes and mouth, in distances of the eyes.
    outside: share of the face, as a recogniser wants it, that lies outside the photograph.
    glare: share of the face that is white and shows nothing.
    """

    height: float
    sharpness: float
    turn: float
    outside: float
    glare: float

    @property
    def flaws(self) -> list[str]:
        """What makes likeness suffer, in words, and what would be better; empty for a good photograph."""
        found = []
        if self.height < SMALL:
            found.append(f"the face is small, {self.height:.0f} pixels tall: take one where it has {GOOD} or more")
        elif self.sharpness < BLURRED:
            found.append("the face is blurred: take a sharper one")
        if self.turn > TURNED:
            found.append("the head is turned far to the side: take one from the front")
        if self.outside > CUT:
            found.append("the face is cut off at the edge: take one that shows the whole head")
        if self.glare > GLARE:
            found.append("the face is over-exposed: take a darker one")
        return found

    @property
    def weight(self) -> float:
        """What the photograph counts among others of the person, above 0 and at most 1."""
        factors = (
            self.height / GOOD,
            self.sharpness / (2 * BLURRED),
            1.5 - self.turn / (2 * TURNED) if self.turn > TURNED else 1.0,
            1 - self.outside,
            1 - self.glare,
        )
        return float(np.prod(np.clip(factors, 0.1, 1.0)))


def quality_of(photo: Image.Image, face: Detection) -> Quality:
    """The quality of a face found in a photograph."""
    pixels = np.asarray(align_arcface(photo, face.landmarks))
    grey = pixels.mean(-1)
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    across = right_eye - left_eye
    middle = (left_eye + right_eye + left_mouth + right_mouth) / 4
    # Of a face that is cut off a detector finds the rest: what is missing is told by where the landmarks are.
    corner, side = alignment(face.landmarks)
    grid = (np.mgrid[0.5:16, 0.5:16] / 16).reshape(2, -1)
    x, y = corner[:, None] + np.outer(side, grid[0]) + np.outer((-side[1], side[0]), grid[1])
    outside = np.mean((x < 0) | (y < 0) | (x > photo.width) | (y > photo.height))
    return Quality(
        height=float(face.box[3] - face.box[1]),
        sharpness=float(laplacian.std() / max(grey.std(), 1e-6)),
        turn=float(abs((nose - middle) @ across) / max(across @ across, 1e-6)),
        outside=float(outside),
        glare=float((pixels.min(-1) >= 250).mean()),
    )

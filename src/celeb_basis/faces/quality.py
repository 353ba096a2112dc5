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
# An eye's brightness over the cheeks'. In eight good photographs, also in shadow and compressed, the brighter eye has
# .49 or more and the darker one .82 or less; under dark rectangles .34 or less, under white ones 1.01 or more. Masks
# over the mouth cannot be told so. No photographs of true sunglasses were at hand.
DARK_EYES, WHITE_EYES = 0.41, 0.92
BLOCKY = 4.0  # edges between a JPEG's blocks over those inside: 1 to 1.2; at quality 10 up to 3.5, at 3 from 5.2
GOOD = 100  # pixels from which size does not matter any more


@dataclass(frozen=True)
class Quality:
    """What can be seen of a face.

    height: of the face in pixels.
    sharpness: spread of the Laplacian over the spread of brightness, where recognisers look; .4 and more is usual.
    turn: how far the nose is from the middle between eyes and mouth, in distances of the eyes.
    outside: share of the face, as a recogniser wants it, that lies outside the photograph.
    glare: share of the face that is white and shows nothing.
    eyes: brightness of the darker and of the brighter eye, over the cheeks'.
    blockiness: how much stronger edges are between the blocks of a JPEG than inside them; nothing is seen of it in a
        photograph that was scaled or cut after it was compressed.
    """

    height: float
    sharpness: float
    turn: float
    outside: float
    glare: float
    eyes: tuple[float, float]
    blockiness: float

    @property
    def flaws(self) -> list[str]:
        """Return what makes likeness suffer, in words, and what would be better; empty for a good photograph."""
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
        elif self.has_hidden_eyes:
            found.append("the eyes are hidden, as by sunglasses or reflections: take one that shows them")
        if self.blockiness > BLOCKY:
            found.append("the file is compressed heavily: take the camera's own")
        return found

    @property
    def has_hidden_eyes(self) -> bool:
        """Return whether both eyes are much darker than the cheeks, or as bright."""
        darker, brighter = self.eyes
        return brighter < DARK_EYES or darker > WHITE_EYES

    @property
    def weight(self) -> float:
        """Return what the photograph counts among others of the person, above 0 and at most 1."""
        factors = (
            self.height / GOOD,
            self.sharpness / (2 * BLURRED),
            1.5 - self.turn / (2 * TURNED) if self.turn > TURNED else 1.0,
            1 - self.outside,
            1 - self.glare,
            0.5 if self.has_hidden_eyes else 1.0,
            BLOCKY / self.blockiness if self.blockiness > BLOCKY else 1.0,
        )
        return float(np.prod(np.clip(factors, 0.1, 1.0)))


def quality_of(photo: Image.Image, face: Detection) -> Quality:
    """Measure a face found in a photograph."""
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
        eyes=_eyes(grey),
        blockiness=_blockiness(photo, face.box),
    )


def _eyes(grey: np.ndarray) -> tuple[float, float]:
    """Return the brightness of the darker and the brighter eye of an aligned face, over the cheeks'."""
    cheeks = np.concatenate([grey[66:80, 28:44].ravel(), grey[66:80, 70:86].ravel()]).mean()
    darker, brighter = sorted(float(eye.mean() / max(cheeks, 1.0)) for eye in (grey[44:60, 28:50], grey[44:60, 63:85]))
    return darker, brighter


def _blockiness(photo: Image.Image, box: np.ndarray) -> float:
    left, top, right, bottom = (int(side) for side in np.clip(box, 0, [*photo.size, *photo.size]))
    if right - left < 16 or bottom <= top:
        return 1.0
    edges = np.abs(np.diff(np.asarray(photo.crop((left, top, right, bottom)).convert("L"), dtype=float))).mean(0)
    between = np.arange(left, left + len(edges)) % 8 == 7
    return float(edges[between].mean() / max(edges[~between].mean(), 1e-6))

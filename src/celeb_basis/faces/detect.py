"""Find the faces of a photograph and their landmarks with YuNet, upright or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .align import cut_square, frame
from .photo import GREY
from .recognise import YUNET, opencv

# YuNet knows faces of 10 to 300 pixels: a close-up is found once the picture is small enough, a small face in a large
# picture only where the picture stays large. A picture above the largest of these is looked at in tiles as well, where
# nobody is found.
SIDES = (1280, 640, 320, 160)
OVERLAP = 256  # of tiles, in pixels: a face that is cut by one of them is whole in the next
SECOND_LOOK = 320  # side in pixels of a face's upright square, in which its landmarks are found again
LOOKS = 2  # at the square, which is more upright each time
# What else is tried, in turn, where nobody is found: the photograph twice as large, darker (for over-exposed faces),
# and turned by these degrees.
LARGER = 2
DARKER = 3.0  # exponent of the tone curve
TURNS = ((90, 270, 180), (45, 135, 225, 315))


@dataclass(frozen=True, eq=False)
class Detection:
    """A face in a photograph: box (left, top, right, bottom) and landmarks (5, 2), in pixels."""

    box: np.ndarray
    landmarks: np.ndarray
    score: float

    @property
    def size(self) -> float:
        """Return width times height."""
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))


class Detector:
    """YuNet, looking at several sizes of a photograph; in tiles, larger, darker and turned where nobody is found."""

    def __init__(self) -> None:
        self._cv2 = opencv()
        self._network: Any = self._cv2.FaceDetectorYN.create(YUNET.fetch(), "", (320, 320))

    def find(self, photo: Image.Image) -> list[Detection]:
        """Return the faces of an RGB photograph, the largest first."""
        found = self._look(photo, SIDES) or self._look_in_tiles(photo) or self._detect_fallbacks(photo)
        for _ in range(LOOKS):
            found = [self._look_again(photo, face) for face in found]
        return sorted(found, key=lambda face: -face.size)

    def _detect_fallbacks(self, photo: Image.Image) -> list[Detection]:
        larger = photo.resize((LARGER * photo.width, LARGER * photo.height), Image.Resampling.BICUBIC)
        if max(photo.size) <= SIDES[0] and (found := self._look(larger, (max(larger.size),))):
            return [Detection(face.box / LARGER, face.landmarks / LARGER, face.score) for face in found]
        if found := self._look(photo.point([round(255 * (v / 255) ** DARKER) for v in range(256)] * 3), SIDES):
            return found
        small = photo.copy()
        small.thumbnail((SIDES[1], SIDES[1]), Image.Resampling.LANCZOS)
        zoom = max(photo.size) / max(small.size)
        for turns in TURNS:
            # A face upside down is found now and then, less surely: the turn that is surest is the right one.
            views = [
                [_turned_back(face, small, turn) for face in self._look(_turn(small, turn), SIDES)] for turn in turns
            ]
            if found := max(views, key=lambda faces: sum(face.score for face in faces)):
                return [Detection(face.box * zoom, face.landmarks * zoom, face.score) for face in found]
        return []

    def _look(self, photo: Image.Image, sides: Sequence[int]) -> list[Detection]:
        rows = []
        for side in sorted({min(side, max(photo.size)) for side in sides}):
            rows += self._rows(photo, side)
        return self._merged(rows)

    def _look_in_tiles(self, photo: Image.Image) -> list[Detection]:
        if max(photo.size) <= SIDES[0]:
            return []
        rows = []
        for left, right in _cuts(photo.width):
            for top, bottom in _cuts(photo.height):
                for row in self._rows(photo.crop((left, top, right, bottom)), SIDES[0]):
                    row[[0, 4, 6, 8, 10, 12]] += left
                    row[[1, 5, 7, 9, 11, 13]] += top
                    x, y, width, height = row[:4]
                    cut = (
                        (x < left and left > 0)
                        or (y < top and top > 0)
                        or (x + width > right and right < photo.width)
                        or (y + height > bottom and bottom < photo.height)
                    )
                    if not cut:
                        rows.append(row)
        return self._merged(rows)

    def _merged(self, rows: Sequence[np.ndarray]) -> list[Detection]:
        if not rows:
            return []
        # One face found at several sizes or in several tiles is one face: of boxes that overlap, the surest stays.
        boxes = [row[:4].tolist() for row in rows]
        kept = self._cv2.dnn.NMSBoxes(boxes, [float(row[14]) for row in rows], 0.0, 0.3)
        return [_found(rows[i]) for i in kept]

    def _rows(self, photo: Image.Image, side: int) -> list[np.ndarray]:
        """Return detections (15,) in the photograph's pixels: left, top, width, height, landmarks (10), score."""
        small = photo.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        self._network.setInputSize(small.size)
        rows = self._network.detect(np.ascontiguousarray(np.asarray(small)[:, :, ::-1]))[1]
        if rows is None:
            return []
        zoom = np.array([photo.width / small.width, photo.height / small.height])
        return list(np.hstack([rows[:, :14] * np.tile(zoom, 7), rows[:, 14:]]))

    def _look_again(self, photo: Image.Image, face: Detection) -> Detection:
        """Return the face with landmarks found in its upright square, where a turned head is no longer turned.

        The square is looked at upside down as well: a face that stands on its head may have been taken for upright.
        """
        corner, across = frame(face.landmarks)
        down = np.array([-across[1], across[0]])
        views = [(corner, across), (corner + across + down, -across)]
        seen = [
            (float(row[14]), origin + row[4:14].reshape(5, 2) / SECOND_LOOK @ np.array([axis, (-axis[1], axis[0])]))
            for origin, axis in views
            for row in self._rows(cut_square(photo, origin, axis, SECOND_LOOK), SECOND_LOOK)
            if np.all(np.abs(row[:2] + row[2:4] / 2 - SECOND_LOOK / 2) < SECOND_LOOK / 4)  # not a neighbour
        ]
        if not seen:
            return face
        return Detection(face.box, max(seen, key=lambda view: view[0])[1], face.score)


def _cuts(length: int) -> list[tuple[int, int]]:
    """Return where tiles begin and end along a side: as few as do, of one size."""
    count = max(-(-(length - OVERLAP) // (SIDES[0] - OVERLAP)), 1)
    size = -(-(length + (count - 1) * OVERLAP) // count)
    starts = [i * (length - size) // max(count - 1, 1) for i in range(count)]
    return [(start, start + size) for start in starts]


def _found(row: np.ndarray) -> Detection:
    left, top, width, height = row[:4]
    return Detection(np.array([left, top, left + width, top + height]), row[4:14].reshape(5, 2), float(row[14]))


def _turn(photo: Image.Image, degrees: int) -> Image.Image:
    """Return the photograph turned against the clock, whole."""
    return photo.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=GREY)


def _turned_back(face: Detection, photo: Image.Image, degrees: int) -> Detection:
    """Return a face found in the turned photograph as it lies in the photograph itself."""
    angle = np.deg2rad(degrees)
    back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre, turned_centre = np.array(photo.size) / 2, np.array(_turn(photo, degrees).size) / 2
    corners = np.array([face.box[:2], face.box[2:]])
    middle = (corners.mean(0) - turned_centre) @ back.T + centre
    size = corners[1] - corners[0]
    half = (size[::-1] if degrees in (90, 270) else size) / 2
    landmarks = (face.landmarks - turned_centre) @ back.T + centre
    return Detection(np.concatenate([middle - half, middle + half]), landmarks, face.score)

"""Cuts heads out of portraits: hair, face and neck without the clothes, and of these what lies over a collar."""

from __future__ import annotations

import cv2
import numpy as np

from celeb_basis.miniature.portraits.heads import CENTRE, HALF, HEIGHT, WIDTH

EYES, EYE_DISTANCE = -0.07, 0.6
"""Height of the eyes and distance between them, in half heights of the head."""
LONG = 0.3
"""Share of the air beside the jaw that is filled where hair hangs down."""
NECK = 0.42
"""Half a neck's breadth."""
FROM = 54
"""The row from which on clothes are looked for; forehead, hair and ears below it say what a head's colours are."""
_X, _Y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
U, V = (_X - CENTRE[0]) / HALF, (_Y - CENTRE[1]) / HALF


def masks(portrait: np.ndarray, chin: float) -> tuple[np.ndarray, np.ndarray]:
    """Return two masks of a cut-out `(200, 176, 4)`: the head with hair and neck, and what lies over a collar.

    chin: how far below the eyes it is, in eye distances.
    """
    chin_at = EYES + EYE_DISTANCE * chin
    solid = portrait[..., 3] > 128
    seeds, hanging = _seeds(portrait[..., 3], solid, chin_at)
    # A colour of its own, so that no model of the clothes' colours takes what is transparent for one.
    coloured = np.where(solid[..., None], portrait[..., 2::-1], np.array([255, 0, 255])).astype(np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    lower = seeds[FROM:]  # a view: what is found is written into it
    cv2.grabCut(np.ascontiguousarray(coloured[FROM:]), lower, None, *models, 2, cv2.GC_INIT_WITH_MASK)
    kept = ((seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)) & solid
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(kept.astype(np.uint8), connectivity=4)
    kept = labels == 1 + statistics[1:, cv2.CC_STAT_AREA].argmax()
    # Bites a little into the edge, where clothes shine through.
    soft = np.clip(2 * cv2.GaussianBlur(kept.astype(np.float32), (0, 0), 1.0) - 0.6, 0, 1)
    head = portrait[..., 3] * np.where(V < 0.25, 1, soft)
    return head.astype(np.uint8), (head * _over_collar(chin_at, hanging)).astype(np.uint8)


def _seeds(alpha: np.ndarray, solid: np.ndarray, chin: float) -> tuple[np.ndarray, dict[int, bool]]:
    """Return where the head surely or perhaps is, for GrabCut, and on which sides hair hangs down."""
    seeds = np.full(solid.shape, cv2.GC_PR_BGD, np.uint8)
    seeds[V < 0.25] = cv2.GC_FGD
    seeds[(np.abs(U) < NECK) & (V >= 0.25) & (V < chin + 0.25)] = cv2.GC_PR_FGD
    jaw = (V > 0.5) & (V < 0.85)
    hanging = {}
    for side in (-1, 1):
        out = side * U
        hanging[side] = alpha[jaw & (out > 0.55) & (out < 0.95)].mean() > 255 * LONG
        if hanging[side]:
            reach = out[solid & jaw & (out > 0)].max() + 0.12
            seeds[(out > NECK) & (V > 0.25) & (V < 1)] = cv2.GC_PR_FGD
            seeds[(out > reach) & (V > 0.6)] = cv2.GC_BGD
        else:
            seeds[(out > NECK) & (V > 0.25)] = cv2.GC_PR_FGD
            seeds[(out > NECK) & (V > 0.8)] = cv2.GC_BGD
    seeds[((U / 0.52) ** 2 + ((V - 0.1) / (chin - 0.15)) ** 2 < 1) & solid] = cv2.GC_FGD
    seeds[(V > 1.5) & (np.abs(U) < 0.3)] = cv2.GC_BGD
    seeds[~solid] = cv2.GC_BGD
    return seeds, hanging


def _over_collar(chin: float, hanging: dict[int, bool]) -> np.ndarray:
    """Return the mask of the face above the jaw's line, and of the hair that hangs down beside the neck."""
    jaw = chin + 0.02 - 0.9 * np.clip(np.abs(U) - 0.15, 0, None) ** 1.5
    over = np.clip((jaw - V) * HALF / 2 + 0.5, 0, 1)
    for side, hangs in hanging.items():
        if hangs:
            over = np.maximum(over, np.clip((side * U - NECK - 0.04) * HALF / 3, 0, 1))
    return over


def skin(portrait: np.ndarray) -> np.ndarray:
    """Return the skin's colour `(3,)` in [0, 1], from the cheeks."""
    cheeks = (np.abs(np.abs(U) - 0.3) < 0.12) & (np.abs(V - 0.27) < 0.1) & (portrait[..., 3] > 128)
    return np.median(portrait[..., :3][cheeks], 0) / 255


def breadth(portrait: np.ndarray) -> float:
    """Return half the breadth of a head, with its hair, where a hat's rim is."""
    rim = (V > -0.65) & (V < -0.45)
    return float(np.clip((portrait[..., 3][rim] > 128).sum() / rim[:, 0].sum() / HALF / 2, 0.78, 1.15))

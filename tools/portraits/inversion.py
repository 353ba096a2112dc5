"""What the instant map of photographs needs to go back through the text encoder: two maps to components of faces."""

from __future__ import annotations

from pathlib import Path

import cv2
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from celeb_basis.backend.pipeline import Pipeline
from celeb_basis.backend.text_encoders import encoder_outputs, name_rows
from celeb_basis.faces.detect import Detector
from celeb_basis.faces.face import Face
from celeb_basis.instant_map import ridge
from celeb_basis.inversion import SIDE, Inversion, view
from celeb_basis.miniature.drawn.captions import FACE_CROP
from celeb_basis.miniature.portraits.heads import Heads
from celeb_basis.miniature.portraits.people import celebrities

from . import features

FILE = "views.safetensors"
VIEW_ALPHAS, STATE_ALPHAS = (1.0, 3.0, 10.0, 30.0), (1e-3, 1e-2, 1e-1, 1.0)


def views(folder: Path, heads: Heads) -> Tensor:
    """Return the faces of all crops as an inversion looks at them, (n, 3 * SIDE * SIDE); made once, in some minutes.

    They are not a number where no face is found.
    """
    if (folder / FILE).exists():
        return load_file(folder / FILE)["views"]
    cv2.setNumThreads(1)
    detector = Detector()
    seen = torch.full((len(heads), 3 * SIDE * SIDE), torch.nan)
    for i, crop in enumerate(tqdm(features.images(heads.crops), "views", mininterval=10)):
        for found in detector.find(crop)[:1]:
            left, right = found.landmarks[:2].astype(float)
            eyes = (*(left + 0.5).tolist(), *(right - left).tolist())
            seen[i] = view(Face(crop, (0.0, 0.0, *map(float, crop.size)), torch.empty(0), crop_eyes=eyes))
    save_file({"views": seen}, folder / FILE)
    return seen


def learnt(folder: Path, pipe: Pipeline, heads: Heads, told: Tensor) -> tuple[Inversion, float]:
    """Learn from the celebrities, and return the leave-one-out R2 of components from photographs.

    told: the components that names were taught to tell, (people, m).
    """
    looks = views(folder, heads)
    some = (heads.celebrity >= 0) & looks.isfinite().all(1)
    of_view = ridge(looks[some].double(), told[heads.celebrity[some]].double(), VIEW_ALPHAS)
    rows, names = name_rows(pipe, celebrities())
    rank = {name: i for i, name in enumerate(celebrities())}
    with torch.no_grad():
        states = torch.cat([encoder_outputs(pipe, FACE_CROP, part)[:, 1] for part in rows.split(64)])
    of_state = ridge(states.double(), told[[rank[name] for name in names]].double(), STATE_ALPHAS)
    print(f"components from a photograph: R2 {of_view.loo_r2:.3f} ({of_view.alpha:g}), from a name's state: "
          f"{of_state.loo_r2:.3f} ({of_state.alpha:g})")  # fmt: skip
    tables = [torch.cat([each.intercept[:, None], each.coef], 1).float() for each in (of_view, of_state)]
    return Inversion(FACE_CROP, *tables), of_view.loo_r2

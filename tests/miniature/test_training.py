"""What training keeps and takes up again."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from stages.export import CURVES, PIPELINE, TRAINING, pictures_seen, restore


@pytest.fixture(scope="module")
def restored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("restored")
    restore(folder, device="cpu")
    return folder


@pytest.mark.parametrize("part", ["unet", *CURVES])
def test_a_restored_part_says_how_many_pictures_it_learnt_from(restored, part):
    (shipped,) = (PIPELINE / part).glob("*.safetensors")
    with safe_open(shipped, "pt") as file:
        assert pictures_seen(restored, part) == int(file.metadata()["pictures"])


def test_kept_files_are_in_half_precision_and_explained():
    readme = (TRAINING / "README.md").read_text()
    for path in TRAINING.rglob("*.safetensors"):
        name = path.relative_to(TRAINING)
        assert ("portraits/" if name.parts[0] == "portraits" else name.as_posix()) in readme
        assert all(value.dtype.itemsize <= 2 for value in load_file(path).values() if value.is_floating_point()), path


def test_a_restored_denoiser_learns_on_in_single_precision(restored):
    state = load_file(restored / "unet.ckpt.safetensors")
    weights = [key for key in state if key.startswith("weights.")]
    assert len(state) == 2 * len(weights)
    for key in weights:
        average = state[key.replace("weights.", "average.", 1)]
        assert state[key].dtype == average.dtype == torch.float32 and state[key].equal(average)


def test_a_part_that_learnt_on_counts_by_its_curve(restored):
    (restored / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with (restored / "unet.jsonl").open("a") as curve:
        curve.write('{"step": 7, "pictures": 1024}\n')
    assert pictures_seen(restored, "unet") == 1024

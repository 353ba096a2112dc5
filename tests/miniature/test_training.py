"""What training keeps and takes up again."""

from __future__ import annotations

import pytest
from safetensors import safe_open
from stages.export import CURVES, PIPELINE, pictures_seen, restore


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


def test_a_part_that_learnt_on_counts_by_its_curve(restored):
    (restored / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with (restored / "unet.jsonl").open("a") as curve:
        curve.write('{"step": 7, "pictures": 1024}\n')
    assert pictures_seen(restored, "unet") == 1024

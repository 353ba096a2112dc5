"""What `info` says of a file is what it measured."""

from dataclasses import replace

import torch
from called import answer

from celeb_basis import CelebBasis, Identity


def test_info_measures_what_a_file_says_of_itself(tmp_path, capsys):
    rows = torch.randn(9, 2, 6, generator=torch.Generator().manual_seed(0))
    basis = CelebBasis.fit(rows, [f"name {i}" for i in range(9)])
    basis.save(tmp_path / "basis.safetensors")
    lies = {"file": "/etc/passwd", "identity": "<eve>", "vectors": "9", "numbers": "1024", "radii_from_mean": "0"}
    lies |= {"name": "fine", "in_prompts": "evil", "made_by": "sample"}
    ada = Identity.sample(basis, "<ada>")
    replace(ada, provenance=lies).save(tmp_path / "ada.safetensors")
    info = answer(capsys, "info", tmp_path / "ada.safetensors")
    assert info["file"] == str(tmp_path / "ada.safetensors") and info["identity"] == "<ada>"
    assert info["vectors"] == [2, 6] and info["made_by"] == "sample"
    assert "numbers" not in info and "radii_from_mean" not in info and info.get("name") != "fine"
    assert info["in_prompts"]["celeb-basis"] == "<ada>"
    measured = answer(capsys, "info", tmp_path / "ada.safetensors", "--basis", tmp_path / "basis.safetensors")
    assert measured["numbers"] == 2 * basis.n_components and len(measured["radii_from_mean"]) == 2

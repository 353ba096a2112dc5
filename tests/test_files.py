import pytest
import torch

from celeb_basis import CelebBasisError, OutputError
from celeb_basis.files import load_safetensors, save_safetensors, write_atomically


def test_round_trip(tmp_path):
    path = tmp_path / "x.safetensors"
    tensor = torch.arange(6.0).reshape(2, 3).T  # not contiguous
    save_safetensors(path, {"a": tensor}, {"k": "v"})
    tensors, metadata = load_safetensors(path)
    assert torch.equal(tensors["a"], tensor) and metadata == {"k": "v"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(error), write_atomically(path) as temporary:
        temporary.write_text("half")
        assert temporary.suffix == ".txt"
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*No such file"):
        save_safetensors(tmp_path / "nowhere" / "x.safetensors", {}, {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write"), write_atomically(tmp_path / "folder") as temporary:
        temporary.write_text("x")
    with pytest.raises(OutputError, match="No space"), write_atomically(tmp_path / "full"):
        raise OSError(28, "No space left on device")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    (tmp_path / "file").touch()
    for path in (tmp_path / ("x" * 300) / "y", tmp_path / "file" / "y", tmp_path / ("x" * 300)):
        with pytest.raises(OutputError, match="cannot write"):
            save_safetensors(path, {}, {})


def test_the_longest_names_can_be_written(tmp_path):
    path = tmp_path / ("x" * 243 + ".safetensors")
    save_safetensors(path, {"a": torch.zeros(1)}, {})
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(CelebBasisError, match="no such file"):
        load_safetensors(tmp_path / "x")
    (tmp_path / "x").write_text("not tensors")
    with pytest.raises(CelebBasisError, match="not a readable safetensors"):
        load_safetensors(tmp_path / "x")

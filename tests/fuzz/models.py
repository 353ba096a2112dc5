"""Model folders with something wrong in them: each is refused in one line, or loads as if nothing were there."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from conftest import make_pipeline, state_of
from files import Tally, limited
from safetensors.torch import load_file, save_file

from celeb_basis import ModelError
from celeb_basis.backend.load import load_pipeline

OfTensors = Callable[[dict[str, torch.Tensor], str], None]
COMPONENTS = ("unet", "vae", "text_encoder")
LIMIT = 60


class Bomb:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("pwned").touch, ())


def weights(folder: Path, part: str) -> Path:
    """The file with a part's weights."""
    return next((folder / part).glob("*.safetensors"))


def changed(folder: Path, part: str, change: OfTensors, chance: random.Random) -> None:
    """Change one tensor of a part."""
    file = weights(folder, part)
    tensors = load_file(file)
    change(tensors, chance.choice(sorted(tensors)))
    save_file(tensors, file, {"format": "pt"})


def drop(tensors: dict[str, torch.Tensor], name: str) -> None:
    del tensors[name]


def spoil(tensors: dict[str, torch.Tensor], name: str) -> None:
    tensors[name].view(-1)[0] = float("nan")


def endless(tensors: dict[str, torch.Tensor], name: str) -> None:
    tensors[name].fill_(float("inf"))


def reshape(tensors: dict[str, torch.Tensor], name: str) -> None:
    tensors[name] = torch.zeros(*tensors[name].shape, 2)


def no_file(folder: Path, part: str) -> None:
    weights(folder, part).unlink()


def torn(folder: Path, part: str) -> None:
    weights(folder, part).write_bytes(weights(folder, part).read_bytes()[:-100])


def no_configuration(folder: Path, part: str) -> None:
    (folder / part / "config.json").unlink()


def deep(folder: Path, part: str) -> None:
    (folder / part / "config.json").write_text("[" * 100_000 + "]" * 100_000)


def no_json(folder: Path, part: str) -> None:
    (folder / part / "config.json").write_bytes(b"\xff\xfe{")


def only_a_pickle(folder: Path, part: str) -> None:
    no_file(folder, part)
    name = "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"
    (folder / part / name).write_bytes(pickle.dumps(Bomb()))


def a_pickle_beside(folder: Path, part: str) -> None:
    name = "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"
    (folder / part / name).write_bytes(pickle.dumps(Bomb()))


def own_code(folder: Path, part: str) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    index[part] = ["mine", "Mine"]
    (folder / "mine.py").write_text("open('pwned', 'w')\nclass Mine: pass\n")
    (folder / part / "mine.py").write_text("open('pwned', 'w')\nclass Mine: pass\n")
    (folder / "model_index.json").write_text(json.dumps(index))


def edited(file: str, **values: Any) -> Callable[[Path], None]:
    """Change values of a JSON file."""

    def edit(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | values))

    edit.__name__ = f"{file} {values}"[:60]
    return edit


def no_tokenizer(folder: Path) -> None:
    for file in (folder / "tokenizer").iterdir():
        file.unlink()


def deep_tokenizer(folder: Path) -> None:
    (folder / "tokenizer" / "tokenizer.json").write_text('{"model":' * 5_000 + "1" + "}" * 5_000)


OF_A_PART: list[Callable[[Path, str], None]] = [
    no_file, torn, no_configuration, deep, no_json, only_a_pickle, a_pickle_beside, own_code,
]  # fmt: skip
OF_A_TENSOR = [drop, drop, spoil, endless, reshape]
OF_A_FOLDER: list[Callable[[Path], None]] = [
    no_tokenizer,
    deep_tokenizer,
    edited("scheduler/scheduler_config.json", prediction_type="flow_prediction"),
    edited("scheduler/scheduler_config.json", num_train_timesteps=0),
    edited("scheduler/scheduler_config.json", beta_start=float("nan")),
    edited("unet/config.json", sample_size=10**9),
    edited("unet/config.json", sample_size=None),
    edited("unet/config.json", sample_size="x"),
    edited("unet/config.json", in_channels=9),
    edited("unet/config.json", block_out_channels=[10**7, 10**7]),
    edited("vae/config.json", latent_channels=-4),
    edited("vae/config.json", scaling_factor="x"),
    edited("text_encoder/config.json", hidden_size=10**6),
    edited("text_encoder/config.json", max_position_embeddings=0),
    edited("model_index.json", _class_name="Nothing"),
    edited("model_index.json", unet=None),
]


def attack(seed: str, folder: Path, cases: int | None = None) -> Tally:
    """Load the tiny model with each thing wrong, or with some of them; a pickle beside the weights changes nothing."""
    chance, tally = random.Random(f"models {seed}"), Tally()
    sound = folder / "sound"
    make_pipeline("sd1").save_pretrained(sound)
    as_it_is = state_of(load_pipeline(sound, device="cpu"))["unet weights"]
    deeds: list[tuple[str, Callable[[Path], None]]] = [(deed.__name__, deed) for deed in OF_A_FOLDER]
    for part in COMPONENTS:
        deeds += [(f"{part} {d.__name__}", lambda f, d=d, part=part: d(f, part)) for d in OF_A_PART]
        deeds += [(f"{part} {d.__name__}", lambda f, d=d, part=part: changed(f, part, d, chance)) for d in OF_A_TENSOR]
    if cases is not None:
        deeds = chance.sample(deeds, cases)
    for i, (name, deed) in enumerate(deeds):
        broken = folder / f"model-{i}"
        shutil.copytree(sound, broken)
        deed(broken)
        tally.tried += 1
        try:
            with limited(LIMIT):
                loaded = load_pipeline(broken, device="cpu")
            if state_of(loaded)["unet weights"] != as_it_is or "beside" not in name:
                tally.failures.append(f"{name}: was loaded")
        except ModelError as error:
            tally.refused += 1
            if "\n" in str(error):
                tally.failures.append(f"{name}: several lines")
        except BaseException as error:
            tally.failures.append(f"{name}: {type(error).__name__} {str(error)[:80]}")
        if Path("pwned").exists():
            Path("pwned").unlink()
            tally.failures.append(f"{name}: code was run")
        shutil.rmtree(broken)
    return tally

"""The whole method on a published architecture, from names to a picture that stock diffusers draws as well.

    python benchmarks endtoend --model sd1 --out benchmarks/cost/results/cost.jsonl

The weights are random: times, memory, files and bit-identity are real, pictures and likeness are not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from architectures import KINDS, make_pipeline, stand_in
from cost import TOKEN, add_device, dtype_of, peak, publish
from safetensors.torch import load_file
from tqdm import tqdm
from worlds import REPORTED

from celeb_basis import CelebBasis, Identity, InstantMap, Recipe
from celeb_basis.backend.text_encoders import name_rows
from celeb_basis.basis import celebrity_names
from celeb_basis.fit.loop import fit_steps
from celeb_basis.fit.methods import CelebBasisMethod
from celeb_basis.generate import generate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=KINDS, default="sd1")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--minutes", type=float, help="after which the fit ends")
    parser.add_argument("--steps", type=int, default=2, help="of the drawn picture")
    add_device(parser)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    dtype = dtype_of(args)
    report: dict[str, Any] = {"benchmark": "endtoend", "model": args.model}
    report |= {"resolution": args.resolution, "device": args.device, "dtype": str(dtype).removeprefix("torch.")}
    seconds: dict[str, float] = {}
    memory: dict[str, float] = {}
    pipe = make_pipeline(args.model, dtype).to(args.device)
    pipe.set_progress_bar_config(disable=True)

    start = time.perf_counter()
    basis = CelebBasis.from_pipeline(pipe, celebrity_names())
    seconds["basis"] = time.perf_counter() - start
    report["basis"] = {"names": len(basis.names), "rank": basis.rank, "n_components": basis.n_components}

    # Made-up features, as the faces of a random model are noise.
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(len(basis.names), 128, generator=generator), dim=-1)
    coefficients = basis.transform(name_rows(pipe, basis.names)[0])
    instant_map = InstantMap.fit(features, coefficients, basis=basis, face_reader="stand-in")
    face = stand_in(REPORTED, features[0])

    recipe = Recipe(max_train_steps=40, max_train_minutes=args.minutes, resolution=args.resolution)
    start = time.perf_counter()
    with tqdm(desc="fitting", disable=None) as bar, peak(pipe, memory):
        for step in fit_steps(
            pipe, basis, [[face]], [TOKEN], recipe, method=CelebBasisMethod(init="instant"), instant_map=instant_map
        ):
            bar.update(step.step - bar.n)
    [ada] = step.identities
    seconds["fit"] = time.perf_counter() - start
    how = {name: int(ada.provenance[name]) for name in ("steps", "train_batch_size")}
    report["fit"] = how | {"peak_gb": memory["peak_gb"]}

    with tempfile.TemporaryDirectory() as folder:
        ada.save(Path(folder) / "ada.safetensors")
        tensors = load_file(Path(folder) / "ada.safetensors")
        again = Identity.load(Path(folder) / "ada.safetensors")
    report["file"] = {key: list(value.shape) for key, value in tensors.items()}

    prompt = f"a photo of {TOKEN} person on the beach"
    size = {"height": args.resolution, "width": args.resolution, "num_inference_steps": args.steps}
    start = time.perf_counter()
    with peak(pipe, memory):
        [ours] = generate(pipe, prompt, [again], seed=3, **size)
    seconds["picture"] = time.perf_counter() - start
    report["picture"] = {"steps": args.steps, "peak_gb": memory["peak_gb"]}
    first = "clip_l" if "clip_l" in tensors else "emb_params"
    pipe.load_textual_inversion({first: tensors[first]}, token=TOKEN)
    if "clip_g" in tensors:
        pipe.load_textual_inversion(
            {"clip_g": tensors["clip_g"]}, token=TOKEN, text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2
        )
    [stock] = pipe(prompt, generator=[torch.Generator().manual_seed(3)], **size).images
    report["same picture as stock diffusers"] = ours.tobytes() == stock.tobytes()
    report["colours in the picture"] = len(set(ours.get_flattened_data()))
    report["seconds"] = {name: round(taken, 1) for name, taken in seconds.items()}
    publish(report, args.out)


if __name__ == "__main__":
    main()

"""The whole method on one page: names, basis, face, fit, pictures, evaluation.

    python examples/whole_method.py             # writes to whole_method/
    python examples/whole_method.py FOLDER 10   # another folder, and fewer steps of the fit

It runs on the miniature. For Stable Diffusion, load a checkpoint and open a photo of your own:

    model = cb.Model.load("stable-diffusion-v1-5/stable-diffusion-v1-5")
    photo = cb.open_photo("annika.jpg")
"""

import sys
from pathlib import Path

import celeb_basis as cb

SCENES = (
    "a photo of <annika> on the beach wearing a red shirt",
    "a photo of <annika> in space wearing a spacesuit",
    "a pencil sketch of <annika> in the snow",
)


def main(out: Path, steps: int | None) -> None:
    """Learn a person from one photo, draw them in three scenes, and measure the result."""
    out.mkdir(parents=True, exist_ok=True)

    # A frozen text-to-image model, and what belongs to it.
    model = cb.Model.load("miniature")

    # The celeb basis: a PCA of the embedding rows of the names that the model knows. The miniature's card names one
    # that is ready, model.basis. This makes the same one again.
    basis = cb.CelebBasis.from_pipeline(model.pipe, model.basis.names, model.basis.n_components)
    basis.save(out / "basis.safetensors")
    print(f"{len(basis.names)} names span a space in which a person is {2 * basis.n_components} numbers")

    # A face in a photo, cut out and described by a vector. The model has never seen this person.
    photo = cb.miniature.person(7)
    photo.save(out / "photo.png")
    [face] = model.find_faces(photo)

    # The instant map goes from the face's vector to a point in the basis, without any training. It was learnt from
    # pictures of the celebrities; `celeb-basis basis --filter` makes one for another model. A model without one has
    # None here, and its fits start from the mean person.
    assert model.instant_map is not None
    start = cb.Identity.from_coefficients(model.basis, model.instant_map.predict(face.feature), "<annika>")
    start.save(out / "annika-instant.safetensors")

    # From there, gradient steps on the point alone lower the model's own denoising loss on the face.
    # model.fit(photo, "annika") does all this in one call.
    for step in model.fit_steps(face, "annika", max_train_steps=steps):
        if step.step:
            print(f"step {step.step}: loss {step.loss:.3f}")
    [annika] = step.identities
    annika.save(out / "annika.safetensors")

    # The person in new scenes. The name stands in the prompt like any other name.
    for seed, prompt in enumerate(SCENES):
        [image] = model.generate(prompt, [annika], seed=seed)
        cb.save_image(image, out / f"scene-{seed}.png")

    # Likeness, fidelity to the prompt and faces found, next to those of the model's own celebrities.
    report = model.evaluate(annika, photo, seeds=1)
    for who, scores in {"annika": report, "celebrities": report["celebrities"]}.items():
        print(who, *(f"{key} {scores[key]['mean']:.2f}" for key in ("identity", "prompt", "detection")))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "whole_method"), int(sys.argv[2]) if len(sys.argv) > 2 else None)

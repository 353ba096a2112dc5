"""The whole method on one page: names, basis, face, fit, pictures, evaluation.

    python examples/whole_method.py             # writes to whole_method/
    python examples/whole_method.py FOLDER 25   # another folder, and fewer steps of the fit

It runs on the miniature. For Stable Diffusion, load a checkpoint and a photo of your own:

    pipe = load_pipeline("stable-diffusion-v1-5/stable-diffusion-v1-5")
    photo = open_photo("my.jpg")
"""

import sys
from pathlib import Path

from celeb_basis import CelebBasis, Identity, InstantMap, Recipe, miniature, save_image
from celeb_basis.backend.card import card_of
from celeb_basis.backend.load import load_pipeline
from celeb_basis.evaluation.evaluate import evaluate
from celeb_basis.faces.face import find_face
from celeb_basis.faces.reader import face_reader
from celeb_basis.fit.loop import fit_steps
from celeb_basis.generate import generate

SCENES = (
    "a photo of <annika> on the beach wearing a red shirt",
    "a photo of <annika> in space wearing a spacesuit",
    "a pencil sketch of <annika> in the snow",
)


def main(out: Path, steps: int) -> None:
    """Learn a person from one photo, draw them in three scenes, and measure the result."""
    out.mkdir(parents=True, exist_ok=True)

    # A frozen text-to-image model, and what comes with it.
    pipe, card = load_pipeline("miniature"), card_of("miniature")

    # The celeb basis: a PCA of the embedding rows of the names that the model knows. The same basis comes with the
    # model; from here on that one is used, as the instant map below was learnt in it.
    shipped = CelebBasis.from_card(card)
    basis = CelebBasis.from_pipeline(pipe, shipped.names, shipped.n_components)
    basis.save(out / "basis.safetensors")
    print(f"{len(basis.names)} names span a space in which a person is {2 * basis.n_components} numbers")

    # A face in a photo, cut out and described by a vector. The model has never seen this person.
    photo = miniature.person(7)
    photo.save(out / "photo.png")
    face = find_face(photo, face_reader(pipe))

    # The instant map goes from the face's vector to a point in the basis, without any training. It was learnt from
    # pictures of the celebrities; `celeb-basis basis --filter` makes one for another model.
    instant_map = InstantMap.from_card(card)
    start = Identity.from_coefficients(shipped, instant_map.predict(face.feature), "<annika>")
    start.save(out / "annika-instant.safetensors")

    # From there, gradient steps on the point alone lower the model's own denoising loss on the face.
    for at in fit_steps(pipe, shipped, [[face]], Recipe(max_train_steps=steps), instant_map=instant_map):
        if at.step:
            print(f"step {at.step}: loss {at.loss:.3f}")
    [annika] = at.identities(["<annika>"])
    annika.save(out / "annika.safetensors")

    # The person in new scenes. The name stands in the prompt like any other name.
    for seed, prompt in enumerate(SCENES):
        [picture] = generate(pipe, prompt, [annika], seed=seed)
        save_image(picture, out / f"scene-{seed}.png", prompt=prompt, seed=seed, model="miniature")

    # Likeness, fidelity to the prompt and faces found, next to those of the model's own celebrities.
    measured = evaluate(pipe, annika, photo, seeds=1)
    for who, scores in {"annika": measured, "celebrities": measured["celebrities"]}.items():
        print(who, *(f"{key} {scores[key]['mean']:.2f}" for key in ("identity", "prompt", "detection")))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "whole_method"), int(sys.argv[2]) if len(sys.argv) > 2 else 100)

"""Protocols: which prompts are drawn and how, what of a prompt is scored, and which published figures stand beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Figures = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Protocol:
    """How people are measured; what is published, as it is published, as far as `differs` does not say otherwise.

    prompts: by kind; {} is the person, {1}, where a prompt has it, a celebrity of the basis or another new person.
    people: how many people the published figures are of.
    num_inference_steps, guidance_scale, sampler, negative_prompts: how pictures are drawn, the last by kind; they give
        way to the caller's, to those of a model's card, and to a model that is drawn in its makers' own way.
    clip: hub id of the CLIP that scores prompts, None for the default.
    without_name: whether the name is deleted from a prompt that is scored; else "a person" stands for it.
    published: rows to stand beside: 100 times the cosines, as `identity` and `prompt`.
    source: of these rows. differs: what is known to differ from how they were measured.
    """

    prompts: Mapping[str, tuple[str, ...]]
    people: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    sampler: str | None = None
    negative_prompts: Mapping[str, str] = field(default_factory=dict)
    clip: str | None = None
    without_name: bool = False
    published: Figures = field(default_factory=dict)
    source: str = ""
    differs: tuple[str, ...] = ()

    @property
    def has_company(self) -> bool:
        """Return whether some prompt has somebody else in it."""
        return any("{1}" in text for texts in self.prompts.values() for text in texts)

    def scored(self, text: str) -> str:
        """Return what of a prompt is scored: no name, which would favour people whom a CLIP knows."""
        if not self.without_name:
            return text.replace("{}", "a person").replace("{1}", "another person")
        return " ".join(
            text.replace("{1} person", "another person").replace("{1}", "another person").replace("{}", "").split()
        )


VIT_B_32 = "openai/clip-vit-base-patch32"
_FAULTS = "blurred face, overexposed, glare on the face, extra fingers, missing fingers, only eyes"
_ALONE = f"{_FAULTS}, several people, no face, no hands, close-up, grey, deformed body, text"
_TOGETHER = f"{_FAULTS}, one person, nobody, mixed faces, no face, no hands, grey, deformed body, text"

PROMPTS = (
    "a photo of {} on the beach wearing a red shirt",
    "a photo of {} in the forest with a crown",
    "a photo of {} in space wearing a spacesuit",
    "a photo of {} smiling in the snow wearing a yellow jacket",
    "a photo of {} in a city at night holding a guitar",
    "a close up photo of {} surprised in a studio",
    "a photo of {} sad in the desert with a red hat",
    "a pencil sketch of {} on the beach",
    "a photo of {} looking left in the forest wearing a blue sweater",
    "a photo of {} in a studio wearing a black suit holding a balloon",
)
DEFAULT_PROTOCOL = "short"
PROTOCOLS: Mapping[str, Protocol] = {
    DEFAULT_PROTOCOL: Protocol({"scene": PROMPTS}),
    # The kinds of Yuan et al. (2023) and the six expressions of their program, in our words. "person" follows the
    # name in all their prompts. Those with company are scored for the new person only.
    "paper": Protocol(
        {
            "style": (
                "a pencil sketch of {} person",
                "an oil painting of {} person in the style of an old master",
                "a watercolour portrait of {} person",
                "a marble bust of {} person in a museum",
            ),
            "scene": (
                "a photo of {} person on the beach wearing a red shirt",
                "a photo of {} person in space wearing a spacesuit",
                "a photo of {} person playing the guitar on a stage",
                "a photo of {} person cooking in a kitchen",
            ),
            "expression": (
                "a photo of {} person smiling, happy",
                "a photo of {} person in tears, sad",
                "a photo of {} person with an angry look",
                "a photo of {} person very surprised at a present, with an open mouth",
                "a photo of {} person frightened by candlelight at night",
                "a photo of {} person tired, with a headache and closed eyes",
            ),
            "with a celebrity": (
                "a photo of {} person and {1} on the beach",
                "a photo of {} person and {1} at a dinner table",
                "a photo of {} person shaking hands with {1}",
                "a selfie of {} person and {1} in a city at night",
            ),
            "two new people": (
                "a photo of {} person and {1} person in the snow",
                "a photo of {} person hugging {1} person in a park",
                "a photo of {} person and {1} person reading a newspaper",
                "a photo of {} person dancing with {1} person",
            ),
        },
        num_inference_steps=50,
        guidance_scale=10.0,
        sampler="ddim",
        negative_prompts={
            "style": _FAULTS,
            "scene": _ALONE,
            "expression": _ALONE,
            "with a celebrity": _TOGETHER,
            "two new people": _TOGETHER,
        },
        clip=VIT_B_32,
        without_name=True,
        published={
            "Textual Inversion": {"prompt": 16.35, "identity": 29.58},
            "DreamBooth": {"prompt": 20.03, "identity": 5.12},
            "Custom Diffusion": {"prompt": 26.32, "identity": 13.85},
            "Celeb Basis": {"prompt": 25.45, "identity": 20.72},
        },
        source="Yuan et al. (2023), averages of the raw figures of their repository, Stable Diffusion 1.4",
        differs=(
            "the prompts and the shorter negative prompts are ours, of the same kinds",
            "their people are faces that a GAN made, their judge is a CosFace network of 20 layers",
            "in company they compare the first face that is found, here the face most alike counts",
            "they also count the photograph itself among the detected faces",
            "in company they keep the other person's name in the prompt that is scored",
        ),
    ),
    # Forty prompts about decoration, action, expression, surroundings and style as in Wang et al. (2024), in our words.
    "stable-identity": Protocol(
        {
            "decoration": (
                "a photo of {} wearing a straw hat",
                "a photo of {} wearing round glasses",
                "a photo of {} with a golden crown",
                "a photo of {} wearing headphones",
                "a photo of {} in a chef's uniform",
                "a photo of {} in a doctor's white coat",
                "a photo of {} wearing a woollen scarf",
                "a photo of {} in a knight's armour",
            ),
            "action": (
                "a photo of {} riding a bicycle",
                "a photo of {} playing the piano",
                "a photo of {} reading a book",
                "a photo of {} drinking coffee",
                "a photo of {} holding a bunch of flowers",
                "a photo of {} talking on the phone",
                "a photo of {} cutting vegetables",
                "a photo of {} rowing a boat",
            ),
            "expression": (
                "a photo of {} laughing",
                "a photo of {} crying",
                "a photo of {} with an angry face",
                "a photo of {} looking surprised",
                "a photo of {} with closed eyes",
                "a photo of {} looking frightened",
                "a photo of {} winking",
                "a photo of {} looking tired",
            ),
            "surroundings": (
                "a photo of {} in front of the Eiffel tower",
                "a photo of {} in a library",
                "a photo of {} on a snowy mountain",
                "a photo of {} in a street at night in the rain",
                "a photo of {} in a field of sunflowers",
                "a photo of {} in a spaceship",
                "a photo of {} under water",
                "a photo of {} at a market",
            ),
            "style": (
                "an oil painting of {}",
                "a pencil drawing of {}",
                "a comic book drawing of {}",
                "a watercolour painting of {}",
                "a bronze statue of {}",
                "a black and white photo of {} from the 1920s",
                "a pixel art picture of {}",
                "a stained glass window of {}",
            ),
        },
        people=70,
        published={
            "Textual Inversion": {"prompt": 28.2, "identity": 31.3},
            "DreamBooth": {"prompt": 28.9, "identity": 35.8},
            "IP-Adapter": {"prompt": 23.7, "identity": 21.7},
            "Celeb Basis": {"prompt": 27.8, "identity": 25.6},
            "StableIdentity": {"prompt": 29.0, "identity": 37.1},
        },
        source="Wang et al. (2024), 70 faces of FFHQ, Stable Diffusion 2.1",
        differs=("the prompts are ours, of the same kinds", "their judge is ArcFace"),
    ),
    # 15 realistic prompts and 5 of styles as in Sun et al. (2024), in our words.
    "celeba-hq": Protocol(
        {
            "portrait": ("a photo of {} person",),
            "expression": (
                "a photo of {} person looking sad",
                "a photo of {} person looking happy",
                "a photo of {} person looking puzzled",
                "a photo of {} person looking angry",
            ),
            "scene": (
                "a photo of {} person playing with building bricks",
                "a photo of {} person by the sea",
                "a photo of {} person flying a jet",
                "a photo of {} person outdoors in a pullover with a rucksack",
                "a photo of {} person in a spacesuit in space",
            ),
            "with a celebrity": (
                "a photo of {} person and {1} baking a cake",
                "a photo of {} person and {1} hiking in the mountains",
                "a photo of {} person and {1} on a sofa",
                "a photo of {} person and {1} at a fair",
                "a photo of {} person shaking hands with {1} before the press",
            ),
            "style": (
                "a cubist painting of {} person",
                "a fauvist painting of {} person",
                "a cave painting of {} person",
                "a pointillist painting of {} person",
                "latte art of {} person",
            ),
        },
        people=200,
        clip=VIT_B_32,
        without_name=True,
        published={
            "Celeb Basis": {"identity": 20.7},
            "Cross Initialization": {"identity": 25.2},
            "NeTI": {"identity": 37.9},
            "IP-Adapter": {"identity": 47.8},
            "InstantID": {"identity": 58.1},
            "RectifID": {"identity": 59.3},
        },
        source="Sun et al. (2024), RectifID, the first 200 faces of CelebA-HQ",
        differs=(
            "the prompts are ours, of the same kinds",
            "their judge is ArcFace, and pictures with a cosine of at most 1e-6 do not count",
            "in company they compare the first face that is found, here the face most alike counts",
        ),
    ),
    "ffhq-100": Protocol(
        {
            "portrait": ("a photo of {} person", "a close-up photo of {} person looking into the camera"),
            "decoration": (
                "a photo of {} person wearing a hat",
                "a photo of {} person wearing sunglasses",
                "a photo of {} person in a dark suit",
            ),
            "scene": (
                "a photo of {} person in a garden",
                "a photo of {} person reading at a desk",
                "a photo of {} person on a city street",
            ),
            "style": ("a painting of {} person", "a charcoal drawing of {} person"),
        },
        people=100,
        published={
            "Celeb Basis": {"identity": 60.0},
            "IP-Adapter FaceID": {"identity": 62.0},
            "weights2weights": {"identity": 64.0},
        },
        source="Dravid et al. (2024), weights2weights, 100 faces of FFHQ, Stable Diffusion 1.5",
        differs=(
            "the prompts are ours; which ones they drew was not looked up",
            "nor was their recogniser, whose cosines are higher than those of ArcFace in the other tables",
        ),
    ),
}

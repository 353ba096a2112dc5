"""Protocols: which prompts are drawn, and in which kinds they fall."""

from __future__ import annotations

from collections.abc import Mapping

# {} is the person; {1}, where a prompt has it, is somebody else: a celebrity of the basis, or another new person.
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
PROTOCOLS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    DEFAULT_PROTOCOL: {"scene": PROMPTS},
    # The four kinds of Yuan et al. (2023), in our words: those with company are scored for the new person only.
    "paper": {
        "style": (
            "a pencil sketch of {}",
            "an oil painting of {} in the style of an old master",
            "a watercolour portrait of {}",
            "a marble bust of {} in a museum",
        ),
        "scene": (
            "a photo of {} on the beach wearing a red shirt",
            "a photo of {} in space wearing a spacesuit",
            "a photo of {} playing the guitar on a stage",
            "a photo of {} cooking in a kitchen",
        ),
        "with a celebrity": (
            "a photo of {} and {1} on the beach",
            "a photo of {} and {1} at a dinner table",
            "a photo of {} shaking hands with {1}",
            "a selfie of {} and {1} in a city at night",
        ),
        "two new people": (
            "a photo of {} and {1} in the snow",
            "a photo of {} hugging {1} in a park",
            "a photo of {} and {1} reading a newspaper",
            "a photo of {} dancing with {1}",
        ),
    },
    # Forty prompts about decoration, action, expression, surroundings and style as in Wang et al. (2024), in our words.
    "stable-identity": {
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
}

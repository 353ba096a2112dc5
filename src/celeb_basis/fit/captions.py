"""Captions of training images, and prompts for the face loss; {} stands for the name."""

import re

_PERSON_TEMPLATES = (
    "a photo of the face of {} person",
    "a photo of {} person",
    "a close-up photo of {} person",
    "a portrait of {} person",
    "a cropped photo of the face of {} person",
)
# Half of them with the name alone, as prompts write it.
TEMPLATES = tuple(text for template in _PERSON_TEMPLATES for text in (template.removesuffix(" person"), template))

_OF_A_PHOTO = (
    "a photo of a", "a rendering of a", "a cropped photo of the", "the photo of a", "a photo of a clean",
    "a photo of a dirty", "a dark photo of the", "a photo of my", "a photo of the cool", "a close-up photo of a",
    "a bright photo of the", "a cropped photo of a", "a photo of the", "a good photo of the", "a photo of one",
    "a close-up photo of the", "a rendition of the", "a photo of the clean", "a rendition of a", "a photo of a nice",
    "a good photo of a", "a photo of the nice", "a photo of the small", "a photo of the weird", "a photo of the large",
    "a photo of a cool", "a photo of a small",
)  # fmt: skip
_KINDS = ("a photo of", "an illustration of", "a depiction of")
PHRASES = tuple(re.sub("^a photo of", kind, phrase) for kind in _KINDS for phrase in _OF_A_PHOTO)
"""What stands before the name: 81 phrases, of which some are given three times. Source: Gal et al. (2022)."""

NAME_TEMPLATES = tuple(f"{phrase} {{}}" for phrase in PHRASES)
FACE_TEMPLATES = tuple(f"{phrase} face of {{}} person" for phrase in PHRASES)

# What the model draws for the face loss: places, clothes, looks and styles.
SCENES = (
    "a photo of {} in a garden",
    "a photo of {} in an office wearing a white shirt",
    "a photo of {} on a bridge in winter wearing a coat",
    "a photo of {} at a football match wearing a green jersey",
    "a close-up photo of {} laughing in the sun",
    "a photo of {} with a serious look in a train",
    "a photo of {} in a restaurant in the evening",
    "a photo of {} on a boat wearing a blue jacket",
    "a photo of {} in a workshop wearing an apron",
    "a portrait photo of {} looking to the side",
    "a photo of {} in the desert wearing sunglasses on the head",
    "a photo of {} in a classroom in front of a blackboard",
    "a black and white photo of {} in a hallway",
    "a charcoal drawing of {}",
    "a film still of {} in a leather jacket at night",
    "a photo of {} with wet hair by a lake",
)

"""The captions of Textual Inversion, which the methods after it use, too."""

import re

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

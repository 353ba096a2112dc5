"""CLIP: how well a picture fits a text, and what a picture looks like as a whole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from ..backend.hub import explain_corrupt_cache
from ..backend.pipeline import silence_libraries
from ..backend.validate import check_part
from ..errors import ModelError

DEFAULT_CLIP = "openai/clip-vit-large-patch14"
BATCH = 16


class Clip:
    """A CLIP model with its tokenizer and image processor; `name` stands in reports."""

    def __init__(self, model: Any, tokenizer: Any, processor: Any, name: str) -> None:
        self._model, self._tokenizer, self._processor, self.name = model.eval(), tokenizer, processor, name

    @classmethod
    def load(cls, name: str | None = None) -> Clip:
        """Load a CLIP from a folder or the hub, by default OpenAI's ViT-L/14. Raises ModelError where there is none."""
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        name = name or DEFAULT_CLIP
        try:
            with silence_libraries():
                model = CLIPModel.from_pretrained(name, use_safetensors=True)
                tokenizer = CLIPTokenizer.from_pretrained(name)
                processor = CLIPImageProcessorPil.from_pretrained(name)
        except Exception as error:  # transformers raises nearly every kind there is
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            with explain_corrupt_cache(_folder(name)):
                raise ModelError(
                    f"the CLIP {name} cannot be loaded ({reason}): name a folder or hub id, or none to leave prompts "
                    "unmeasured",
                    argument="clip",
                ) from error
        folder = _folder(name)
        if folder is not None:
            with explain_corrupt_cache(folder):
                check_part(model, f"the CLIP {name}", folder)
        return cls(model, tokenizer, processor, name)

    @torch.no_grad()
    def image_features(self, images: Sequence[Image.Image]) -> Tensor:
        """Return features of images, (n, d) of unit length."""
        features = []
        for first in range(0, len(images), BATCH):
            batch = [image.convert("RGB") for image in images[first : first + BATCH]]
            pixels = self._processor(images=batch, return_tensors="pt")["pixel_values"]
            features.append(self._model.get_image_features(pixel_values=pixels).pooler_output)
        return normalize(torch.cat(features).float(), dim=-1)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Return features of texts, (n, d) of unit length; a text is cut at the model's longest."""
        longest = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        return normalize(self._model.get_text_features(**tokens).pooler_output.float(), dim=-1)

    def scores(self, images: Sequence[Image.Image], texts: Sequence[str]) -> list[float]:
        """Return the CLIP score of each image and its text: 100 times the cosine, at least 0 (Hessel et al., 2021)."""
        distinct = list(dict.fromkeys(texts))
        text = self.text_features(distinct)[[distinct.index(each) for each in texts]]
        return (100 * (self.image_features(images) * text).sum(-1)).clamp(min=0).tolist()


def _folder(name: str) -> Path | None:
    """Return where a CLIP lies on this machine, if it does."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if os.path.isdir(name):
        return Path(name)
    try:
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # a path is no hub id
        return None
    return Path(cached).parent if isinstance(cached, str) else None

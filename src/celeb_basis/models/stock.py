"""Tokens put into a stock pipeline for good, through diffusers' own loader, and taken out again."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..errors import IdentityError, ModelError
from .encoders import check_placeholder, embedding_dims, pooling_at_highest, text_encoders
from .pipeline import model_name


def load_token(pipe: Any, token: str, vectors: Tensor) -> None:
    """Let `token` mean vectors (n, dim) in every prompt of a pipeline of diffusers, until `unload_token`.

    Each text encoder gets its own part, and pooling is mended where the configuration says eos_token_id 2: diffusers
    alone would pool such a model's prompts at the token.

    Raises ModelError for a pipeline that takes no tokens, PromptError for a token that has a meaning already.
    """
    if not hasattr(pipe, "load_textual_inversion"):
        raise ModelError(f"{model_name(pipe)} is a {type(pipe).__name__}, which takes no embeddings: use generate")
    check_placeholder(pipe, token, len(vectors))
    parts = vectors.split(embedding_dims(pipe), dim=-1)
    for (_, tokenizer, encoder), part in zip(text_encoders(pipe), parts, strict=True):
        pipe.load_textual_inversion(part.contiguous(), token=token, tokenizer=tokenizer, text_encoder=encoder)
        for module in pooling_at_highest(encoder):
            module.eos_token_id = tokenizer.eos_token_id


def unload_token(pipe: Any, token: str) -> None:
    """Take a token out again; without any, the pipeline is as it was loaded, less rows of a table that no token had.

    Raises IdentityError where the token is not in the pipeline.
    """
    if not all(token in tokenizer.get_vocab() for _, tokenizer, _ in text_encoders(pipe)):
        raise IdentityError(f"{token} is not loaded in {model_name(pipe)}")
    for _, tokenizer, encoder in text_encoders(pipe):
        added = tokenizer.get_added_vocab()
        parts = [token]
        while (following := f"{token}_{len(parts)}") in added:
            parts.append(following)
        before = encoder.get_input_embeddings()
        pipe.unload_textual_inversion(parts, tokenizer=tokenizer, text_encoder=encoder)
        # diffusers makes a new table, which asks for gradients and forgets its settings.
        table = encoder.get_input_embeddings()
        table.weight.requires_grad_(before.weight.requires_grad)
        table.train(before.training)
        if len(tokenizer) == tokenizer.vocab_size:
            for module in encoder.modules():
                if hasattr(module, "eos_token_id"):
                    module.eos_token_id = encoder.config.eos_token_id

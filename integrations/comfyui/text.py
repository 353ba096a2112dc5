"""Identities in the prompts of a CLIP: <annika> becomes her vectors."""

import copy
import re

from transformers import AddedToken

# The parts of ComfyUI's tokenizers and text encoders that take identities, in the order of an identity's vectors.
CLIPS = ("clip_l", "clip_g", "clip_h")
LANGUAGE_MODELS = ("qwen3_4b", "qwen3_8b")
PARTS = CLIPS + LANGUAGE_MODELS
MODELS = "SD 1, SD 2, SDXL, FLUX.2 klein and Z-Image"


def part_names(clip):
    """The text encoders of a CLIP. Raises ValueError for one that identities were not made for."""
    own = [name for name in vars(clip.tokenizer) if hasattr(getattr(clip.tokenizer, name), "tokenizer")]
    own = own or [name for name in PARTS if hasattr(clip.tokenizer, name)]
    if not own or not set(own) <= set(PARTS):
        raise ValueError(f"this CLIP has {', '.join(own) or 'no text encoder'}: identities are for {MODELS}")
    return [name for name in PARTS if name in own]


def with_identity(clip, identity):
    """A copy of a CLIP in whose prompts the identity's token means the person; the CLIP itself stays as it is."""
    named, before = clip.clone(), clip.tokenizer
    people = before.people if isinstance(before, Naming) else {}
    plain = before.plain if isinstance(before, Naming) else before
    people = people | {identity.placeholder_token: identity}
    named.tokenizer = Naming(plain, part_names(clip), people)
    return named


class Naming:
    """A tokenizer of ComfyUI that knows some people more: `people` by their tokens."""

    def __init__(self, plain, names, people):
        self.plain, self.people = plain, people
        self._tokenizer = copy.copy(plain)
        self._written = re.compile("|".join(map(re.escape, people)), re.IGNORECASE)
        self._pieces = {token: _pieces(token, len(person.vectors)) for token, person in people.items()}
        self._read_as_tokens = names[0] in LANGUAGE_MODELS
        for i, name in enumerate(names):
            part = copy.copy(getattr(plain, name))
            vectors = {token: person.vectors.split(person.encoder_dims, dim=-1)[i] for token, person in people.items()}
            if self._read_as_tokens:
                _add_tokens(part, vectors)
            else:
                part.embedding_directory = part.embedding_directory or []  # without one, names are not looked up at all
                part._try_get_embedding = _finder(vectors, part._try_get_embedding)
            setattr(self._tokenizer, name, part)

    def __getattr__(self, name):
        if name.startswith("_"):  # while a copy is made, there is nothing to ask yet
            raise AttributeError(name)
        return getattr(self._tokenizer, name)

    def tokenize_with_weights(self, text, return_word_ids=False, **options):
        return self._tokenizer.tokenize_with_weights(self._written.sub(self._write, text), return_word_ids, **options)

    def _write(self, found):
        token = found[0].lower()
        # Only words between spaces are looked up.
        return " ".join(self._pieces[token]) if self._read_as_tokens else f" embedding:{token} "


def _pieces(token, count):
    """Return the tokens as which a language model reads a person of `count` vectors."""
    return [token, *(f"{token}_{i}" for i in range(1, count))]


def _add_tokens(part, vectors):
    """Let a language model's tokenizer read each person as tokens of their own.

    Behind an embedding, ComfyUI would lose the line breaks of the chat around the prompt, and before it a space would
    stand alone, which in these vocabularies belongs to the word.
    """
    rows = {}
    part.tokenizer = copy.deepcopy(part.tokenizer)
    for token, own in vectors.items():
        pieces = _pieces(token, len(own))
        part.tokenizer.add_tokens([AddedToken(piece, lstrip=True) for piece in pieces])
        rows |= zip(part.tokenizer.convert_tokens_to_ids(pieces), own, strict=True)
    read = part.tokenize_with_weights

    def tokenize_with_weights(*args, **options):
        batches = read(*args, **options)
        return [[(rows.get(one, one) if isinstance(one, int) else one, *rest) for one, *rest in b] for b in batches]

    part.tokenize_with_weights = tokenize_with_weights


def _finder(vectors, others):
    """Return what a tokenizer asks for the vectors of a name; it also wants the text behind it."""
    wants_name = len(others("-")) == 3  # since ComfyUI 0.27, in between

    def find(text):
        name, _, leftover = text.partition(" ")
        if name not in vectors:
            return others(text)
        return (vectors[name], name, leftover) if wants_name else (vectors[name], leftover)

    return find

"""Identities in the prompts of a CLIP: <annika> becomes her vectors."""

import copy
import re

# The parts of ComfyUI's tokenizers and text encoders that take identities, in the order of an identity's vectors.
PARTS = ("clip_l", "clip_g", "clip_h")


def part_names(clip):
    """The text encoders of a CLIP. Raises ValueError for one that identities were not made for."""
    own = [name for name in vars(clip.tokenizer) if hasattr(getattr(clip.tokenizer, name), "tokenizer")]
    own = own or [name for name in PARTS if hasattr(clip.tokenizer, name)]
    if not own or not set(own) <= set(PARTS):
        raise ValueError(f"this CLIP has {', '.join(own) or 'no text encoder'}: identities are for SD 1, SD 2 and SDXL")
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
        for i, name in enumerate(names):
            part = copy.copy(getattr(plain, name))
            part.embedding_directory = part.embedding_directory or []  # without one, names are not looked up at all
            vectors = {token: person.vectors.split(person.encoder_dims, dim=-1)[i] for token, person in people.items()}
            part._try_get_embedding = _finder(vectors, part._try_get_embedding)
            setattr(self._tokenizer, name, part)

    def __getattr__(self, name):
        if name.startswith("_"):  # while a copy is made, there is nothing to ask yet
            raise AttributeError(name)
        return getattr(self._tokenizer, name)

    def tokenize_with_weights(self, text, return_word_ids=False, **options):
        # Only words between spaces are looked up.
        text = self._written.sub(lambda found: f" embedding:{found[0].lower()} ", text)
        return self._tokenizer.tokenize_with_weights(text, return_word_ids, **options)


def _finder(vectors, others):
    """What a tokenizer asks for the vectors of a name; it also wants the text behind it."""

    def find(text):
        name, _, leftover = text.partition(" ")
        return (vectors[name], leftover) if name in vectors else others(text)

    return find

"""Two and three new people in a picture: learnt jointly or one by one by the paper's method, and by ours.

    python benchmarks interaction --people 6

Source: Yuan et al. (2023), whose new people interact with each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from contenders import OURS, PAPER, Contender, Fitted
from experiment import run
from model import Learnt, Model
from worlds import Person


@dataclass(frozen=True)
class OneByOne(Fitted):
    """Learns each person in a fit of their own."""

    def learn(self, model: Model, people: Sequence[Person]) -> Iterator[Learnt]:
        """Yield the last step of everybody."""
        alone = []
        for person in people:
            for step in super().learn(model, [person]):
                learnt = step
            alone.append(learnt)
        yield Learnt(torch.cat([each.vectors for each in alone]), alone[0].parameters)

    @property
    def side_by_side(self) -> bool:
        """Whether several people are each as if alone."""
        return True


INTERACTION: dict[str, Contender] = {
    "the paper, learnt jointly": PAPER,
    "the paper, one by one": OneByOne(**vars(PAPER)),
    "Celeb Basis, refined": OURS,
}

if __name__ == "__main__":
    run("interaction", INTERACTION, (2, 3), __doc__)

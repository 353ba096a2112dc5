"""Joint learning by the paper's method: 2, 5 and 10 people through one layer, against one by one.

    python benchmarks joint --people 10

Every person gets as many steps as alone. Source: Yuan et al. (2023), who learn ten people at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from contenders import PAPER, Contender, Fitted
from experiment import run


@dataclass(frozen=True)
class Jointly(Fitted):
    """Learns so many people in one fit, whoever is drawn."""

    people_at_once: int = 1

    @property
    def side_by_side(self) -> bool:
        """Whether the people of one fit are drawn from it; each group is fitted once."""
        return True


GROUPS = {"one by one": 1, "two at once": 2, "five at once": 5, "ten at once": 10}
JOINT: dict[str, Contender] = {name: Jointly(**vars(PAPER), people_at_once=n) for name, n in GROUPS.items()}

if __name__ == "__main__":
    run("joint", JOINT, (1,), __doc__, people=10, together=GROUPS)

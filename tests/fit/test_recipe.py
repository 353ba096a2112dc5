"""What a fit does where nobody says: the caller before the card, the card before the method."""

import pytest

from celeb_basis import IdentityError, ModelError, Recipe
from celeb_basis.backend.card import ModelCard
from celeb_basis.fit.recipe import (
    DEFAULTS,
    SCALES,
    TEMPLATES,
    recipe_for_card,
    steps_from_map,
    steps_from_mean,
)  # fmt: skip


def test_half_of_the_captions_have_the_name_alone():
    """As prompts write it; the other half has a person after it."""
    bare = [text for text in TEMPLATES if " person" not in text]
    assert len(set(TEMPLATES)) == 2 * len(bare) and {f"{text} person" for text in bare} == set(TEMPLATES) - set(bare)
    assert min(SCALES) == 0.5 and max(SCALES) == 1


def test_the_more_a_map_tells_the_fewer_steps_follow():
    assert steps_from_map(400, -1) == steps_from_map(400, 0) == 400
    taken = [steps_from_map(400, r2 / 100) for r2 in range(101)]
    assert taken == sorted(taken, reverse=True) and taken[-1] == 0 and all(steps % 10 == 0 for steps in taken)
    assert steps_from_map(80, 0.325) == 40  # the miniature's
    assert steps_from_map(7, 0.01) == 7


def test_the_caller_comes_before_the_card_and_the_card_before_the_method():
    card = ModelCard(templates=("{}",), scales=(1.0,), learning_rate=0.2, max_train_steps=7, num_milestones=1)
    own = Recipe(learning_rate=0.5, num_milestones=0).completed("celeb-basis", card)
    assert (own.learning_rate, own.num_milestones, own.templates, own.scales) == (0.5, 0, ("{}",), (1.0,))
    assert Recipe().completed("celeb-basis", card).learning_rate == 0.2
    assert steps_from_mean("celeb-basis", card) == 7
    for method, defaults in DEFAULTS.items():
        found = Recipe().completed(method, ModelCard())
        own = (found.learning_rate, found.train_batch_size, found.templates, found.scales, found.num_train_images)
        assert (*own, found.num_milestones) == defaults[1:7]


@pytest.mark.parametrize("method", [name for name in DEFAULTS if name != "celeb-basis"])
def test_other_methods_keep_their_own_rate_and_steps(method):
    card = ModelCard(learning_rate=0.2, max_train_steps=7, num_milestones=3)
    found = Recipe().completed(method, card)
    assert (found.learning_rate, found.num_milestones) == (DEFAULTS[method].learning_rate, 0)
    assert steps_from_mean(method, card) == DEFAULTS[method].max_train_steps
    card = ModelCard(methods={method: {"max_train_steps": 9, "learning_rate": 0.3, "train_batch_size": 5}})
    found = Recipe().completed(method, card)
    assert (found.learning_rate, found.train_batch_size, steps_from_mean(method, card)) == (0.3, 5, 9)
    assert Recipe().completed("celeb-basis", card).learning_rate == DEFAULTS["celeb-basis"].learning_rate
    with pytest.raises(ModelError, match="there are celeb-basis, paper"):
        Recipe().completed(method, ModelCard(methods={"papers": {}}))


def test_a_card_holds_the_whole_recipe():
    card = ModelCard(**recipe_for_card(ModelCard(scales=(0.7,))))
    assert card.scales == (0.7,) and recipe_for_card(card) == recipe_for_card(ModelCard(scales=(0.7,)))
    assert Recipe().completed("celeb-basis", card) == Recipe(scales=(0.7,)).completed("celeb-basis", ModelCard())
    assert steps_from_mean("celeb-basis", card) == DEFAULTS["celeb-basis"].max_train_steps


def test_too_many_milestones_are_refused():
    with pytest.raises(IdentityError, match="from 0 to 100") as refused:
        Recipe(num_milestones=101)
    assert refused.value.argument == "num_milestones"

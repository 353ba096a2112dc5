"""What the miniature's text encoder learns to tell apart."""

import pytest
from stages.text import GROUP, same_people, same_scene

from celeb_basis.miniature.drawn.captions import asked

THINGS = ("expression", "pose", "clothes", "object", "headwear")


@pytest.mark.parametrize("kind", ["single", "pair"])
def test_the_same_people_never_do_the_same_twice(kind):
    described = same_people(kind, 4, seed=5)
    scene = described.scene
    for start in range(0, 4 * GROUP, GROUP):
        group = scene[slice(start, start + GROUP)]
        things = [group.scene, *(getattr(group, of_each)[:, 0] for of_each in THINGS)]
        doing = set(zip(*(thing.tolist() for thing in things), strict=True))
        assert len(doing) == GROUP
        assert (described.who[start : start + GROUP] == described.who[start]).all()
        assert (group.x == group.x[0]).all()


def test_captions_of_the_same_people_name_all_that_is_unusual():
    described = same_people("single", 4, seed=6)
    assert {len(set(described.scene[slice(k, k + GROUP)].scene.tolist())) for k in (0, GROUP)} == {1, 2}
    for i, caption in enumerate(described.captions):
        said = asked(caption)
        assert said.get("expression", 0) == described.scene.expression[i, 0], caption
        assert said.get("pose", 0) == described.scene.pose[i, 0], caption
        assert said.get("object", 0) == described.scene.object[i, 0], caption
        assert said.get("headwear", 0) == described.scene.headwear[i, 0], caption


def test_groups_of_one_scene_differ_in_who_is_in_it_alone():
    described = same_scene("single", 2, seed=7)
    for start in (0, GROUP):
        group = described.scene[slice(start, start + GROUP)]
        assert len(set(described.who[start : start + GROUP, 0].tolist())) == GROUP
        for field in (*THINGS, "x"):
            assert (getattr(group, field) == getattr(group, field)[0]).all()

"""Company: training pictures of two, and what a fit learns from them."""

import pytest
import torch
from conftest import NAMES, TEMPLATES, state_of
from PIL import Image
from test_fit import make_face

from celeb_basis import IdentityError, PromptError, Recipe, miniature
from celeb_basis.training.company import Company
from celeb_basis.training.fit import fit_identities, fit_steps
from celeb_basis.training.pictures import encode_pictures, pair_picture, training_picture

QUICK = {"init": "mean", "max_train_steps": 3, "train_batch_size": 2, "num_pictures": 4, "templates": TEMPLATES}
PAIRS = ("a photo of {} on {}", "{} and {}")


def of_colour(*rgb):
    return Image.new("RGB", (8, 8), rgb)


@pytest.mark.parametrize("size", [32, 40])
def test_each_stands_in_their_half(size):
    g = torch.Generator().manual_seed(0)
    widths = set()
    for _ in range(30):
        picture = pair_picture(
            [of_colour(255, 60, 60)], [of_colour(60, 60, 255)], size=size, grid=8, scales=(0.25, 0.5, 1.0), generator=g
        )
        assert picture.shape == (3, size, size)
        halves = []
        for half, colour in ((picture[:, :, : size // 2], 0), (picture[:, :, size - size // 2 :], 2)):
            lit = (half.max(0).values > -1).nonzero()
            height, width = (lit.max(0).values - lit.min(0).values + 1).tolist()
            assert height == width == len(lit) ** 0.5 and width % 8 == 0 and width <= size // 2
            assert half.mean((1, 2)).argmax() == colour
            top, left = lit.min(0).values.tolist()
            assert top % 8 == 0
            halves.append((left, width))
            widths.add(width)
        assert halves[0][0] % 8 == 0 and (halves[1][0] + size - size // 2) % 8 == 0
    assert len(widths) == 2  # a quarter and, of the others, all that a half has room for


def test_one_alone_is_drawn_from_the_same_stream():
    """In a canvas of their own somebody looks as in the half of another."""
    crops, more = [of_colour(10, 200, 30)], {"grid": 4, "scales": (0.5,)}
    alone = training_picture(crops, size=16, generator=torch.Generator().manual_seed(3), **more)
    pair = pair_picture(crops, crops, size=16, generator=torch.Generator().manual_seed(3), **more)
    colour, of_left = (p.flatten(1).max(1).values for p in (alone, pair[:, :, :8]))
    torch.testing.assert_close(colour, of_left)


def make_company(pipe, people, companions, share=1.0):
    return Company(
        pipe,
        [[make_face(i).crop] for i in range(people + len(companions))],
        companions,
        share=share,
        templates=PAIRS,
        num_pictures=4,
        seed=0,
        size=16,
        grid=2,
        scales=None,
    )


def test_captions_say_who_is_in_the_picture(pipe):
    """The caption's first is the one whose face is in the left half, and everybody meets everybody on both sides."""
    company, tokens = make_company(pipe, 2, ["tom hanks"]), ["<a>", "<b>"]
    g = torch.Generator().manual_seed(0)
    met = [company.met(0, tokens, 3, g) for _ in range(60)]
    expected = {t.format(*pair) for t in PAIRS for o in ("<b>", "tom hanks") for pair in (("<a>", o), (o, "<a>"))}
    assert {caption for _, caption in met} == expected
    names = [*tokens, "tom hanks"]
    for latents, caption in met[:12]:
        left, right = sorted((n for n in names if n in caption), key=caption.index)
        crops = [[make_face(names.index(name)).crop] for name in (left, right)]
        seeds = torch.randint(2**62, (2,), generator=torch.Generator().manual_seed(0)).tolist()  # of 4 // 2 pictures
        drawn = [
            pair_picture(*crops, size=16, grid=2, scales=None, generator=torch.Generator().manual_seed(s))
            for s in seeds
        ]
        pool = encode_pictures(pipe, torch.stack(drawn))
        for each in latents:
            assert min((each - one).abs().max() for one in pool) < 1e-4
    assert all(company.met(1, tokens, 1, g)[1].count("<b>") == 1 for _ in range(10)), "nobody is beside themselves"


def test_the_share_is_one_of_steps(pipe):
    company, g = make_company(pipe, 2, [], share=0.25), torch.Generator().manual_seed(0)
    met = [company.met(1, ["<a>", "<b>"], 1, g) is not None for _ in range(400)]
    assert 0.18 < sum(met) / 400 < 0.32


def test_one_picture_teaches_both(pipe, basis):
    """A person whose own steps never come is learnt from the pictures of another, and only where both are named."""
    people = [[make_face(1)], [make_face(2)]]

    def gradients(share, monkeypatch):
        seen = []
        from celeb_basis.training import fit

        plain = fit.denoising_loss

        def first_only(*args):
            losses = plain(*args)
            return losses * torch.tensor([1.0, 0.0])

        with monkeypatch.context() as patch:
            patch.setattr(fit, "denoising_loss", first_only)
            recipe = Recipe(**QUICK, momentum=0.0, company=share, pair_templates=PAIRS)
            seen = [step.coefficients.clone() for step in fit_steps(pipe, basis, people, recipe)]
        return (seen[-1] - seen[0]).abs().amax((1, 2))

    with pytest.MonkeyPatch.context() as monkeypatch:
        alone, together = gradients(0.0, monkeypatch), gradients(1.0, monkeypatch)
    assert alone[0] > 0 and alone[1] == 0
    assert (together > 0).all()


def test_everything_is_as_before_and_repeatable(pipe, basis):
    people, tokens = [[make_face(1)], [make_face(2), make_face(3)]], ["<a>", "<b>"]
    recipe = Recipe(**QUICK, company=0.5, pair_templates=PAIRS, seed=4)
    before = state_of(pipe)
    first, again = (fit_identities(pipe, basis, people, tokens, recipe) for _ in range(2))
    assert state_of(pipe) == before
    assert all(torch.equal(a.vectors, b.vectors) for a, b in zip(first, again, strict=True))
    assert all(person.provenance["company"] == "0.5" for person in first)
    apart = fit_identities(pipe, basis, people, tokens, Recipe(**QUICK, seed=4))
    assert not any(torch.equal(a.vectors, b.vectors) for a, b in zip(first, apart, strict=True))


def test_a_celebrity_can_be_the_company(pipe, basis):
    recipe = Recipe(**QUICK, company=1.0, pair_templates=PAIRS)
    learnt = [
        fit_identities(pipe, basis, [[make_face(1)]], ["<a>"], recipe, companions={name: [make_face(seed)]})
        for name, seed in ((NAMES[0], 2), (NAMES[1], 2), (NAMES[0], 3))
    ]
    assert all(len(people) == 1 for people in learnt)
    first, *others = (people[0].vectors for people in learnt)
    assert not any(torch.equal(first, other) for other in others), "both name and face matter"


def test_the_miniatures_captions_are_in_its_own_words():
    from celeb_basis.miniature.captions import VOCABULARY

    templates = miniature.load_pipeline().hints["pair_templates"]
    Recipe(pair_templates=templates)
    assert {word for t in templates for word in t.replace("{}", "").split()} <= set(VOCABULARY)


@pytest.mark.parametrize(
    ("recipe", "companions", "message"),
    [
        ({"company": 1.5}, {}, "company=1.5 must be a share"),
        ({"company": 0.5, "pair_templates": ("a photo of {}",)}, {}, "pair_templates"),
        ({"company": 0.5, "pair_templates": ()}, {}, "pair_templates"),
        ({"company": 0.5}, {}, "somebody to be shown beside"),
        ({"company": 0.5}, {"tom hanks": []}, "at least one face of tom hanks"),
        ({}, {"tom hanks": [make_face(2)]}, "give company="),
    ],
)
def test_company_that_cannot_be(pipe, basis, recipe, companions, message):
    with pytest.raises(IdentityError, match=message):
        fit_identities(pipe, basis, [[make_face(1)]], ["<a>"], Recipe(**QUICK, **recipe), companions=companions)


def test_a_caption_that_would_be_cut_short_is_refused(pipe, basis):
    recipe = Recipe(**QUICK, company=0.01, pair_templates=("a " * 16 + "{} {}",))
    with pytest.raises(PromptError, match="too long"):
        fit_identities(pipe, basis, [[make_face(1)], [make_face(2)]], ["<a>", "<b>"], recipe)

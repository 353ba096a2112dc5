"""The photographs' world: heads cut out of portraits, laid on drawn bodies, and called by invented names."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from torch.nn.functional import interpolate

from celeb_basis.basis import celebrity_names as real_people
from celeb_basis.miniature.drawn.captions import WORDS, asked
from celeb_basis.miniature.drawn.world import EXPRESSIONS, FRAMINGS, PLACED, POSES, SIZE, Scene
from celeb_basis.miniature.portraits import world
from celeb_basis.miniature.portraits.captions import ASIDE, Sampler
from celeb_basis.miniature.portraits.heads import HEIGHT, WIDTH, Heads, resampling
from celeb_basis.miniature.portraits.people import celebrities, fame

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from portraits import cutting, features
from portraits.components import Components, pictured
from portraits.components import run as components_of_heads
from portraits.data import SIDES, celebrities_in, faces_on_black
from portraits.keep import KEPT, restore
from portraits.latents import SEEN, STRIP, WINDOW, Rounds, corners, halves, seen_as, strips, windows
from portraits.names import invented
from portraits.sides import said_of
from portraits.text import slots
from portraits.unet import READING
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from stages.latents import encode
from stages.tokenizer import LENGTH, tokenizer
from stages.unet import build

SKIN, HAIR, SUIT = (224, 172, 140), (90, 50, 20), (20, 30, 70)


def portrait(long_hair: bool = False) -> np.ndarray:
    """A portrait in three colours, `(200, 176, 4)`: hair round a face and, where it is long, down to the shoulders."""
    u, v = cutting.U, cutting.V
    face = (u / 0.65) ** 2 + (v / 1.0) ** 2 < 1
    hair = (u / 0.85) ** 2 + ((v + 0.2) / 1.0) ** 2 < 1
    if long_hair:
        hair |= (np.abs(u) < 0.95) & (np.abs(u) > 0.5) & (v > -0.2) & (v < 1.5)
    neck = (np.abs(u) < 0.33) & (v > 0.5) & (v < 1.2)
    suit = (v > 1.1) & (np.abs(u) < 1.3)
    noise = np.random.default_rng(0).normal(0, 4, (HEIGHT, WIDTH, 3))
    picture = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    for shape, tone in ((suit, SUIT), (neck, SKIN), (hair, HAIR), (face & (v > -0.6), SKIN)):
        picture[shape, :3] = np.clip(np.array(tone) + noise[shape], 0, 255)
        picture[shape, 3] = 255
    return picture


@pytest.fixture(scope="module")
def heads() -> Heads:
    """Eight photographs of six people: two smile, some look aside, one has long hair."""
    n = 8
    cut = [(picture := portrait(i == 1), *cutting.masks(picture, 1.8)) for i in range(n)]
    rgb = torch.stack([torch.from_numpy(picture[..., :3].transpose(2, 0, 1).copy()) for picture, _, _ in cut])
    whole, head, front = (
        torch.stack([torch.from_numpy(np.ascontiguousarray(layer)) for layer in layers])
        for layers in ([picture[..., 3] for picture, _, _ in cut], [c[1] for c in cut], [c[2] for c in cut])
    )
    celebrity = torch.tensor([0, 1, 2, 3, 4, 4, -1, -1])
    return Heads(
        rgb=rgb, whole=whole, head=head, front=front, crops=torch.full((n, 3, 160, 160), 99, dtype=torch.uint8),
        skin=torch.tensor(SKIN).expand(n, 3) / 255, breadth=torch.full((n,), 0.85), person=torch.arange(n),
        celebrity=celebrity, smiling=torch.tensor([1, 1, 0, 0, 0, 0, 0, 0]).bool(),
        yaw=torch.tensor([0.0, 0.0, 0.3, -0.3, 0.0, 0.0, 0.0, 0.0]),
    )  # fmt: skip


def scene_of(heads: Heads, picture: list[int], **changes: torch.Tensor) -> Scene:
    """One plain scene of these photographs."""
    scene = Sampler(3, heads).scenes(torch.tensor([picture]))
    zero = torch.zeros(1, len(picture), dtype=torch.long)
    return replace(scene, style=zero[:, 0], headwear=zero, object=zero, **changes)


def test_what_is_cut_out_has_no_rest_of_the_clothes():
    head, front = cutting.masks(portrait(), 1.8)
    suit = portrait()[..., :3].astype(int) - SUIT
    on_suit = (np.abs(suit).max(-1) < 30) & (portrait()[..., 3] > 0)
    assert head[on_suit].mean() < 8
    face = (np.abs(cutting.U) < 0.4) & (np.abs(cutting.V) < 0.7)
    assert head[face].min() == 255 and front[face].min() == 255


def test_long_hair_lies_over_the_collar_and_the_neck_does_not():
    _, short = cutting.masks(portrait(), 1.8)
    _, long = cutting.masks(portrait(long_hair=True), 1.8)
    beside = (np.abs(np.abs(cutting.U) - 0.75) < 0.1) & (np.abs(cutting.V - 1.15) < 0.1)
    neck = (np.abs(cutting.U) < 0.2) & (np.abs(cutting.V - 1.2) < 0.05)
    assert long[beside].mean() > 200 and short[beside].mean() < 8
    assert long[neck].mean() < 8


def test_a_line_is_scaled_without_changing_its_tone_and_ends_in_nothing():
    weights = resampling(torch.tensor([20.0]), torch.tensor([0.37]), 50.0, 100, 40)[0]
    inner = weights[8:32].sum(1)
    assert (inner - 1).abs().max() < 0.15
    assert weights[0].sum() < 0.01


def test_pictures_are_always_the_same_and_show_the_head_in_its_place(heads):
    scene = scene_of(heads, [0])
    picture = world.draw(scene, heads)
    assert picture.shape == (1, 3, SIZE, SIZE)
    assert torch.equal(picture, world.draw(scene, heads))
    x, y = int(scene.x[0, 0]), int(world.HEAD[scene.framing[0], 1])
    skin = heads.skin[0] * world.LIGHT[scene.scene[0]]
    assert (picture[0, :, y, x] - skin).abs().max() < 0.08


def test_a_mirrored_head_is_mirrored_and_nothing_else(heads):
    lopsided = replace(heads, rgb=heads.rgb.clone())
    lopsided.rgb[:, :, :, : WIDTH // 2] //= 2
    at = torch.tensor([[64.0]])
    plain, mirrored = (
        world.draw(scene_of(lopsided, [0], x=at, identity=torch.tensor([[[0, turned]]])), lopsided) for turned in (0, 1)
    )
    y = int(world.HEAD[scene_of(heads, [0]).framing[0], 1])
    assert plain[0, 0, y, 58] < plain[0, 0, y, 70] and mirrored[0, 0, y, 58] > mirrored[0, 0, y, 70]
    assert torch.equal(plain[..., -4:, :], mirrored[..., -4:, :])


def test_several_people_stand_where_the_world_places_them(heads):
    scene = scene_of(heads, [0, 1, 2])
    picture = world.draw(scene, heads)
    y = int(world.HEAD[scene.framing[0], 1])
    for i in range(3):
        skin = heads.skin[i] * world.LIGHT[scene.scene[0]]
        assert (picture[0, :, y, int(scene.x[0, i])] - skin).abs().max() < 0.08


def test_captions_say_what_is_drawn(heads):
    named = set()
    for many in (1, 2, 3):
        sampler = Sampler(many, heads)
        picture = torch.stack([torch.randperm(5)[:many] for _ in range(200)])
        scene = sampler.scenes(picture)
        for i, caption in enumerate(sampler.captions(scene, [tuple("abc"[:many])] * 200)):
            for key, value in asked(caption).items():
                named.add(key)
                assert set(getattr(scene, key).reshape(200, -1)[i].tolist()) == {value}
    assert named == set(WORDS)


def test_a_face_has_the_expression_and_the_side_of_its_photograph(heads):
    scene = Sampler(0, heads).scenes(torch.arange(5).repeat(40)[:, None])
    picture, mirrored = scene.identity[:, 0].unbind(-1)
    assert ((scene.expression[:, 0] == EXPRESSIONS.index("smiling")) == heads.smiling[picture]).all()
    aside = heads.yaw[picture].abs() > ASIDE
    assert not mirrored[~aside].any() and 0.2 < mirrored[aside].float().mean() < 0.8
    right = (heads.yaw[picture] > 0) ^ mirrored.bool()
    assert (scene.pose[aside, 0] == torch.where(right[aside], POSES.index("right"), POSES.index("left"))).all()


def test_faces_on_black_keep_to_their_squares_and_vary_their_grounds(heads):
    squares = torch.tensor([[16, 32, 80, 96]]).expand(12, 4)
    picture = torch.zeros(12, dtype=torch.long)
    pasted = faces_on_black(picture, picture, squares, heads, seed=5)
    outside = torch.ones(SIZE, SIZE, dtype=torch.bool)
    outside[32:96, 16:80] = False
    assert not pasted[:, :, outside].any()
    assert len({tuple(corner.tolist()) for corner in pasted[:, :, 34, 18]}) > 4


def test_windows_lie_round_the_face():
    boxes = torch.tensor([[[64.0, 64.0, 128.0, 128.0]], [[0.0, 0.0, 50.0, 50.0]]])
    corner = corners(boxes)
    assert corner.tolist() == [[8, 8], [0, 0]]
    x = torch.arange(2 * 256.0).view(2, 1, 16, 16)
    assert torch.equal(windows(x, corner)[0], x[0, :, 8:, 8:])
    assert windows(x, corner).shape == (2, 1, WINDOW, WINDOW)
    assert (corners(boxes.view(1, 2, 4)) == -1).all()


def test_two_people_lie_in_the_halves_of_their_strip_as_one_far_away_does_in_a_window():
    framing = torch.tensor([FRAMINGS.index("pair"), FRAMINGS.index("far away")])
    pair, alone = (placed(framing[i : i + 1], PLACED[2 - i]).boxes() for i in range(2))
    own = alone[0, 0] - 8 * corners(alone)[0].flip(0).repeat(2)
    assert torch.equal(pair[0, 0] - torch.tensor([0, 8 * STRIP] * 2), own)
    assert torch.equal(pair[0, 1] - torch.tensor([8 * WINDOW, 8 * STRIP] * 2), own)
    x = torch.arange(256.0).view(1, 1, 16, 16)
    assert torch.equal(halves(strips(x))[1], x[0, :, STRIP : STRIP + WINDOW, WINDOW:])


def placed(framing, x):
    """A scene of which only the places of faces count."""
    none = torch.zeros(1, dtype=torch.long)
    return Scene(
        framing=framing, x=torch.tensor([x]), **{f.name: none for f in fields(Scene) if f.name not in ("framing", "x")}
    )


def test_faces_are_seen_where_they_are_in_their_windows(heads):
    described = celebrities_in("face", 200, 4, heads)
    picture = torch.zeros(200, 1, 16, 16)
    for i, (left, top, right, bottom) in enumerate((described.boxes[:, 0] / 8).long().tolist()):
        picture[i, :, top:bottom, left:right] = 1
    seen = seen_as(described)
    assert {SEEN[kind] for kind in seen[:, 2].tolist()} == {f"face {side}" for side in SIDES}
    shown = windows(picture, corners(described.boxes.float()))
    for window, (top, left, kind) in zip(shown[:, 0], seen.tolist(), strict=True):
        side = min(SIDES[kind] // 8, WINDOW)
        expected = torch.zeros(WINDOW, WINDOW)
        expected[top : top + side, left : left + side] = 1
        assert torch.equal(window, expected)

    described = celebrities_in("single", 200, 4, heads)
    framings = {described.scene.framing[i].item() for i in (seen_as(described)[:, 2] >= 0).nonzero()[:, 0]}
    assert framings == {0, 1, 2} and len(SEEN) == len(SIDES) + 3
    boxes = described.boxes[:, 0]
    within = boxes - 8 * corners(described.boxes).flip(-1).repeat(1, 2)
    for framing in framings:  # on the grid alike, wherever they stand
        own = within[described.scene.framing == framing]
        assert torch.allclose(own, own[:1].expand_as(own), atol=1e-3)
    assert (seen_as(celebrities_in("three", 9, 4, heads)) == -1).all()
    assert {SEEN[kind] for kind in seen_as(celebrities_in("pair", 9, 4, heads))[:, 2] if kind >= 0} == {
        "scene far away"
    }


@pytest.fixture
def uncompiled(monkeypatch):
    """Compiling the painter takes most of a minute in every process."""
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    with torch._dynamo.config.patch(disable=True):
        yield


@pytest.fixture(scope="module")
def many(heads) -> Heads:
    """A hundred and twenty people whose heads are all alike in shape, and have random faces."""
    n = 120
    torch.manual_seed(6)
    faces = interpolate(torch.rand(n, 3, 16, 14), (HEIGHT, WIDTH), mode="bicubic").clamp(0, 1)
    each = {key: value[torch.arange(n) % len(heads)] for key, value in vars(heads).items()}
    whole = torch.full((n, HEIGHT, WIDTH), 255, dtype=torch.uint8)
    return Heads(**each | {"rgb": (faces * 255).byte(), "whole": whole, "celebrity": torch.arange(n)})


def test_components_of_a_difference_are_those_of_the_faces_wherever_they_are(many, tmp_path, uncompiled):
    restore(tmp_path, device="cpu")
    save_file({key: value.contiguous() for key, value in vars(many).items()}, tmp_path / "heads.safetensors")
    components_of_heads(tmp_path, device="cpu")
    components = Components(tmp_path, "cpu")

    fine = features.fine(many)
    fine = fine - fine.mean(0)
    _, directions = torch.linalg.eigh(fine.T @ fine)
    told = fine @ directions[:, -features.COMPONENTS["fine"] :].flip(-1)
    told = told / told.std(0)
    vae = AutoencoderTiny.from_pretrained(tmp_path / "vae")
    for kind in ("face 64", "face 96", "scene portrait"):
        described = pictured(kind, torch.arange(len(many)), many)
        if described.kind == "face":
            _, top, right, _ = described.boxes[0, 0].tolist()
            described.boxes = described.boxes + torch.tensor([SIZE - right, -top, SIZE - right, -top])
        else:
            described.scene.x -= 8
            described.boxes = described.scene.boxes()
        latents = torch.cat([encode(vae, some).float() for some in described.draw(many).split(60)])
        shown = windows(latents, corners(described.boxes.float()))
        found, asked = (x - x.roll(1, 0) for x in (shown, told))
        wrong = (components(found, seen_as(described)) - asked).square().mean() / asked.square().mean()
        assert wrong < 0.3, (kind, wrong)
    assert components(shown, torch.full((len(many), 3), -1)).shape == (0, features.COMPONENTS["fine"])


def test_descriptions_are_of_celebrities_alone_and_repeatable(heads):
    described = celebrities_in("pair", 40, 9, heads)
    pictures = described.scene.identity[..., 0]
    assert (heads.celebrity[pictures] == described.who).all()
    names = celebrities()
    assert all(
        names[i] in text for row, text in zip(described.who.tolist(), described.captions, strict=True) for i in row
    )
    assert described.captions == celebrities_in("pair", 40, 9, heads).captions


def test_nobody_real_is_called_by_an_invented_name():
    names = celebrities()
    assert len(set(names)) == len(names) > 3000
    assert not {name.lower() for name in real_people()} & set(names)
    assert (fame(len(names)).diff() < 0).all()


def test_names_are_shared_unevenly_and_first_names_tell_the_gender():
    genders = ["f", "m"] * 600
    names = invented(genders)
    assert names == invented(genders)
    firsts = [{name.split()[0] for name, of in zip(names, genders, strict=True) if of == gender} for gender in "fm"]
    assert not firsts[0] & firsts[1]
    last = Counter(name.split()[1] for name in names)
    assert 700 < len(last) < 1000 and max(last.values()) > 2
    first = Counter(name.split()[0] for name in names).most_common()
    assert first[0][1] > 8 * first[-1][1]


def test_every_name_is_two_tokens_and_captions_fit(heads):
    tokens = tokenizer(celebrities())
    assert all(len(ids) == 2 for ids in tokens(list(celebrities()), add_special_tokens=False).input_ids)
    longest = celebrities_in("three", 100, 1, heads).captions
    assert max(len(ids) for ids in tokens(longest, truncation=False).input_ids) <= LENGTH


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("a photo of {0} on the left and {1} on the right", {"left": 0, "right": 1}),
        ("{0} on the left , {1} in the middle and {2} on the right", {"left": 0, "middle": 1, "right": 2}),
        ("a photo of {0} looking left and {1} on the beach", {}),
        ("on the left {0} and {1}", {}),
    ],
)
def test_a_side_is_said_of_who_was_named_last(caption, said):
    names = celebrities()
    tokens = tokenizer(names)
    those = slots([caption], caption.count("{"), tokens, names[:3])
    words = torch.tensor(tokens.convert_tokens_to_ids([f"{word}</w>" for word in ("left", "middle", "right")]))
    [of] = said_of(those.ids, those.at, words, tokens.convert_tokens_to_ids("the</w>")).tolist()
    pieces = tokens.convert_ids_to_tokens(those.ids[0])
    assert {piece.removesuffix("</w>"): person for piece, person in zip(pieces, of, strict=True) if person >= 0} == said


def test_training_goes_on_from_what_is_kept(tmp_path):
    restore(tmp_path, device="cpu")
    checkpoint = tmp_path / "unet.ckpt.safetensors"
    with safe_open(checkpoint, "pt") as file:
        assert int(file.metadata()["step"]) > 0
    state = {k.removeprefix("average."): v for k, v in load_file(checkpoint).items() if k.startswith("average.")}
    build(READING).load_state_dict(state)
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert not [path for path in KEPT.rglob("*") if path.suffix in (".jpg", ".png", ".webp")]
    assert sum(path.stat().st_size for path in KEPT.rglob("*") if path.is_file()) < 26e6


def test_rounds_drawn_ahead_by_other_processes_are_the_same(heads, tmp_path, uncompiled):
    taken = []
    for workers in (0, 1):
        folder = tmp_path / str(workers)
        folder.mkdir()
        restore(folder, device="cpu")
        save_file({key: value.contiguous() for key, value in vars(heads).items()}, folder / "heads.safetensors")
        rounds = Rounds(folder, 12, workers=workers)
        taken.append([rounds.take(number) for number in (0, 1)])
        assert not (folder / "latents-0-0.safetensors").exists() and (folder / "latents-0-1.safetensors").exists()
    for here, there in zip(*taken, strict=True):
        assert here.keys() == there.keys() and all(here[key].equal(there[key]) for key in here)
    assert not taken[0][0]["latents"].equal(taken[0][1]["latents"])

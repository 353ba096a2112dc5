"""The published methods, step for step, against statements of their formulas in stock PyTorch and diffusers."""

import copy
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from conftest import NAMES, make_pipeline
from fits import make_face
from torch import nn
from torch.nn.functional import leaky_relu, mse_loss, normalize, pairwise_distance

from celeb_basis import CelebBasis, IdentityError, ModelCard, Recipe
from celeb_basis.backend.families import get_denoiser
from celeb_basis.backend.text_encoders import name_rows
from celeb_basis.faces.network import FaceNetwork, cut_squares
from celeb_basis.fit.captions import PHRASES
from celeb_basis.fit.data import Augmentation, face_weights, training_image
from celeb_basis.fit.loop import augmentation_of, fit_steps
from celeb_basis.fit.methods import METHODS, CrossInitialization, Paper, StableIdentity, TextualInversion
from celeb_basis.fit.methods.method import FitContext
from celeb_basis.fit.recipe import DEFAULTS

STEPS = 3
CAPTIONS = tuple(
    f"{kind} of {the}{{}}" for kind in ("a photo", "the photo", "photo") for the in ("", "the ", "the face of ", "a ")
)
"""Short ones, as the tests' text encoder spells most words by letters."""


@dataclass
class Drawn:
    """What chance gave a fit for one step: of each image the caption, the latents, the noise and the timestep."""

    captions: list
    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor


def recorded_fit(pipe, basis, people, method, monkeypatch, face_reader=None, **recipe):
    """Fit people, and return every step with what chance gave it."""
    denoiser, drawn = type(get_denoiser(pipe)), []
    encode, predict = denoiser.encode_prompts, denoiser.predict

    def encode_prompts(self, prompts):
        drawn.append(Drawn(list(prompts), None, None, None))
        return encode(self, prompts)

    def spy(self, *args):
        found = predict(self, *args)
        last = drawn[-1]
        last.latents, last.noise, last.timesteps = (
            x.flatten(0, 1).clone() for x in (found.clean, found.noise, found.timesteps)
        )
        return found

    monkeypatch.setattr(denoiser, "encode_prompts", encode_prompts)
    monkeypatch.setattr(denoiser, "predict", spy)
    tokens = [f"<person{i}>" for i in range(len(people))]
    recipe = Recipe(max_train_steps=STEPS, templates=CAPTIONS, **recipe)
    steps = list(fit_steps(pipe, basis, people, tokens, recipe, method=method, face_reader=face_reader))
    monkeypatch.undo()
    return steps, drawn


class Stock:
    """A Stable Diffusion pipeline with tokens added to its vocabulary, as textual inversion scripts add them."""

    def __init__(self, pipe, tokens):
        self.pipe = copy.deepcopy(pipe)
        for module in (self.pipe.text_encoder, self.pipe.unet, self.pipe.vae):
            module.requires_grad_(False)
        self.pipe.tokenizer.add_tokens([f"[{i}]" for i in range(tokens)])
        self.pipe.text_encoder.resize_token_embeddings(len(self.pipe.tokenizer), mean_resizing=False)
        self.rows = self.pipe.tokenizer.convert_tokens_to_ids([f"[{i}]" for i in range(tokens)])

    def output(self, caption, vectors, latents, noise, timestep):
        """Predict for one image, whose caption has `{}` where the vectors stand; gradients reach the vectors."""
        written = caption.replace("{}", " ".join(f"[{i}]" for i in range(len(vectors))))
        ids = self.pipe.tokenizer(
            written, padding="max_length", max_length=self.pipe.tokenizer.model_max_length, return_tensors="pt"
        ).input_ids
        table = self.pipe.text_encoder.get_input_embeddings()
        found = [int((ids[0] == row).nonzero()[0, 0]) for row in self.rows[: len(vectors)]]
        embedded = table(ids).clone()
        embedded[0, found] = vectors
        hook = table.register_forward_hook(lambda module, args, result: embedded)
        try:
            states = self.pipe.text_encoder(ids)[0]
        finally:
            hook.remove()
        alpha = self.alpha(timestep)
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        return self.pipe.unet(noisy[None], timestep[None], states).sample[0], noisy

    def alpha(self, timestep):
        return self.pipe.scheduler.alphas_cumprod[timestep]


def caption_of(text):
    """Return a recorded caption with {} for its token."""
    token = text[text.index("<") : text.index(">") + 1]
    return text.replace(token, "{}"), int(token[1:-1])


def replay(pipe, drawn, vectors_of, loss_of, optimizer, *, clip=None, tokens=2, who=None):
    """Take the recorded steps again; return the vectors of person 0 after each."""
    stock, after = Stock(pipe, tokens), []
    for step in drawn:
        losses = []
        for k, text in enumerate(step.captions):
            caption, token = caption_of(text)
            assert token == k
            vectors = vectors_of(0 if who is None else who[len(after)][k])
            output, noisy = stock.output(caption, vectors, step.latents[k], step.noise[k], step.timesteps[k])
            losses.append(loss_of(stock, output, noisy, step.latents[k], step.noise[k], step.timesteps[k], vectors))
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        if clip is not None:
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
        optimizer.step()
        after.append(vectors_of(0).detach().clone())
    return after


def plain_error(stock, output, noisy, latents, noise, timestep, vectors):
    return mse_loss(output, noise)


@pytest.fixture(scope="module")
def sd1():
    """The published programs are for Stable Diffusion 1 and 2."""
    return make_pipeline("sd1")


@pytest.fixture(scope="module")
def basis(sd1):
    return CelebBasis.from_pipeline(sd1, NAMES)


def context(pipe, basis, people, seed=0):
    generators = [torch.Generator().manual_seed(seed) for _ in people]
    return FitContext(pipe, basis, people, generators)


def test_the_papers_steps_are_the_published_ones(sd1, basis, monkeypatch):
    people = [[make_face(1)], [make_face(2)]]
    method = Paper(momentum=0.0)
    steps, drawn = recorded_fit(sd1, basis, people, method, monkeypatch, seed=3)
    features = torch.stack([faces[0].feature for faces in people])
    k = basis.n_components
    start = method.start(context(sd1, basis, people, seed=3)).free[0]
    assert torch.equal(start[:, -1], torch.zeros(2 * k)), "no bias at the start"
    assert start[:, :-1].std() == pytest.approx(1, abs=0.1) and abs(start[:, :-1].mean()) < 0.1
    layer = nn.Linear(features.shape[1], 2 * k)
    with torch.no_grad():
        layer.weight.copy_(start[:, :-1])
        layer.bias.zero_()

    def vectors_of(i):
        coefficients = normalize(leaky_relu(layer(features[i]), 0.2).view(2, k), dim=-1)
        return basis.mean + torch.einsum("jk,jkd->jd", coefficients, basis.components)

    # As the released code's learning rate is multiplied by the batch; the layer is everybody's.
    optimizer = torch.optim.AdamW(layer.parameters(), lr=5e-3 * 2, weight_decay=0.01)
    assert len(steps) - 1 == STEPS * len(people), "as many steps for each person, in all"
    assert all(len(step.captions) == 2 for step in drawn)
    who = whose(steps, drawn, people, basis, vectors_of, layer, optimizer, sd1)
    assert {i for step in who for i in step} == {0, 1}


def whose(steps, drawn, people, basis, vectors_of, layer, optimizer, pipe):
    """Replay joint steps, telling by the vectors whose image each was; return the people of every step."""
    found, state = [], (copy.deepcopy(layer.state_dict()), copy.deepcopy(optimizer.state_dict()))
    for n, step in enumerate(drawn, start=1):
        fits = []
        for pair in ([0, 0], [0, 1], [1, 1]):
            layer.load_state_dict(state[0])
            optimizer.load_state_dict(copy.deepcopy(state[1]))
            replay(pipe, [step], vectors_of, plain_error, optimizer, who=[pair])
            error = max(float((vectors_of(i).detach() - steps[n].vectors[i]).abs().max()) for i in (0, 1))
            fits.append((error, pair, copy.deepcopy(layer.state_dict()), copy.deepcopy(optimizer.state_dict())))
        error, pair, *state = min(fits, key=lambda fit: fit[0])
        assert error < 2e-5, f"step {n}: no people explain where the layer went (off by {error})"
        found.append(pair)
    return found


class Looks(nn.Module):
    """A recogniser that is one linear layer on the pixels it sees."""

    def __init__(self, size):
        super().__init__()
        self.layer = nn.Linear(3 * size * size, 8)
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(8, 3 * size * size, generator=torch.Generator().manual_seed(5)))

    def forward(self, pixels):
        return self.layer(pixels.flatten(1))


class Reader:
    name, read = "test", None

    def __init__(self, size):
        self.network = FaceNetwork(Looks(size), size)


def test_the_paper_reads_the_face_of_every_image(sd1, basis, monkeypatch, caplog):
    """The recogniser sees the crop as jittered and mirrored in each step; the face it was given does not matter."""
    whole = (0.0, 0.0, 16.0, 0.0)
    face, reader = replace(make_face(1), crop_square=whole), Reader(16)
    caplog.set_level("INFO", "celeb_basis")
    steps, drawn = recorded_fit(sd1, basis, [[face]], Paper(momentum=0.0), monkeypatch, seed=3, face_reader=reader)
    assert steps[-1].provenance[0]["features"] == "of each image" and "training images" not in caplog.text
    k = basis.n_components
    start = Paper().start(context(sd1, basis, [[face]], seed=3)).free[0]
    layer = nn.Linear(8, 2 * k)
    with torch.no_grad():
        layer.weight.copy_(start[:, :-1])
        layer.bias.zero_()

    def vectors_of(i_or_feature):
        feature = face.feature if isinstance(i_or_feature, int) else i_or_feature
        coefficients = normalize(leaky_relu(layer(feature), 0.2).view(2, k), dim=-1)
        return basis.mean + torch.einsum("jk,jkd->jd", coefficients, basis.components)

    optimizer = torch.optim.AdamW(layer.parameters(), lr=5e-3 * 2, weight_decay=0.01)
    seen = faces_of_a_fit(sd1, face, Paper, "paper", images=2, seed=3)
    for n, (step, pixels) in enumerate(zip(drawn, seen, strict=True), start=1):
        pixels = torch.stack(pixels)
        assert not torch.equal(pixels[0], pixels[1])
        features = normalize(reader.network.module(pixels * 2 - 1), dim=-1).detach()
        [expected] = replay(sd1, [step], vectors_of, plain_error, optimizer, who=[features])
        assert torch.allclose(steps[n].vectors[0], expected, atol=2e-5), f"step {n}"


def test_where_no_network_reads_images_the_log_says_so(sd1, basis, monkeypatch, caplog):
    caplog.set_level("INFO", "celeb_basis")
    for face, reader, says in (
        (make_face(1), None, "no face reader is at hand"),
        (make_face(1), Reader(16), "does not say where in these faces it looked"),
        (replace(make_face(1), face_reader="another"), Reader(16), "the photos were read by another, not by test"),
    ):
        caplog.clear()
        steps, _ = recorded_fit(sd1, basis, [[face]], "paper", monkeypatch, face_reader=reader)
        assert says in caplog.text and steps[-1].provenance[0]["features"] == "of the photograph"


def test_a_mirrored_face_is_read_where_it_went():
    """The square lies askew; what a recogniser sees of the mirrored crop is the mirror image of what it saw."""
    square = (3.0, 1.0, 9.0, 2.0)
    face = replace(make_face(1), crop_square=square)
    plain = Augmentation(continuous=True, scales=(1.0,), colour=0.0)
    images = [
        training_image(
            [face], size=16, vae_scale_factor=1, augmentation=plain, generator=torch.Generator().manual_seed(seed)
        )
        for seed in range(8)
    ]
    first = next(image for image in images if image.square == square)
    other = next(image for image in images if image.square != square)
    a, b = (cut_squares([image.face], [image.square], 8) for image in (first, other))
    assert torch.allclose(a, b.flip(-1), atol=1e-5)


def faces_of_a_fit(pipe, face, method, name, *, images, seed):
    """Return the faces (3, side, side) in the images of each step of a fit, before they lie on black."""
    g, denoiser, found = torch.Generator().manual_seed(seed), get_denoiser(pipe), []
    torch.randint(2**53, (), generator=g)  # where timesteps would begin if they were spread evenly
    for _ in range(STEPS):
        seeds = torch.randint(2**62, (images,), generator=g).tolist()
        torch.rand(images, generator=g)
        torch.randint(len(CAPTIONS), (images,), generator=g)
        made = [
            training_image(
                [face],
                size=denoiser.resolution,
                vae_scale_factor=denoiser.vae_scale_factor,
                augmentation=replace(method.augmentation, scales=DEFAULTS[name].scales),
                generator=torch.Generator().manual_seed(each),
            )
            for each in seeds
        ]
        found.append([image.face for image in made])
        # Images of one step are encoded one at a time, as each has a caption of its own.
        for image in made:
            denoiser.encode(image.pixels[None], g)
        for _ in made:
            torch.randn(1, denoiser.in_channels, *made[0].weights.shape[1:], generator=g)
    return found


def test_the_papers_basis_is_of_the_first_and_second_rows_of_every_name(sd1):
    """As the released program: a table of first and one of second tokens, whatever else follows in a name."""
    names = [*NAMES, "ada", "photo of person", "beach face", "left person on", "a"]
    own = CelebBasis.from_pipeline(sd1, names, any_length=True)
    table = sd1.text_encoder.get_input_embeddings().weight.detach().double()
    ids = [sd1.tokenizer(f" {name}", add_special_tokens=False).input_ids for name in names]
    assert {len(each) for each in ids} >= {1, 2, 3}
    for j in range(2):
        rows = torch.stack([table[each[j]] for each in ids if len(each) > j])
        mean = rows.mean(0)
        _, singular, components = torch.linalg.svd(rows - mean)
        assert torch.allclose(own.mean[j].double(), mean, atol=1e-7)
        cosines = (own.components[j].double() @ components[: own.n_components].T).abs().diagonal()
        distinct = singular[: own.n_components].diff().abs() > 1e-4 * singular[0]
        assert (cosines[1:-1][distinct[:-1] & distinct[1:]] > 0.9999).all()
        assert torch.allclose(own.explained_variance[j].double(), (singular**2)[: own.n_components] / (len(rows) - 1))
    assert own.names == tuple(names)
    steps = list(
        fit_steps(sd1, own, [[make_face(1)]], ["<a>"], Recipe(max_train_steps=1, templates=CAPTIONS), method="paper")
    )
    assert steps[-1].vectors.isfinite().all()


def test_the_papers_average_is_over_images(sd1, basis, monkeypatch):
    face = [[make_face(1)]]
    plain, _ = recorded_fit(sd1, basis, face, Paper(momentum=0.0), monkeypatch)
    averaged, _ = recorded_fit(sd1, basis, face, Paper(momentum=0.5), monkeypatch)
    coefficients = basis.transform(torch.stack([step.vectors[0] for step in plain]))
    expected, seen = coefficients[0], 0
    for before, step in zip(coefficients[:-1], averaged[1:], strict=True):
        for _ in range(DEFAULTS["paper"].train_batch_size):
            seen += 1
            decay = min(0.5, (1 + seen) / (10 + seen))
            expected = decay * expected + (1 - decay) * before
        assert torch.allclose(basis.transform(step.vectors[0]), expected, atol=1e-5)


def test_the_papers_first_step_keeps_its_start(sd1, basis, monkeypatch):
    """A step turns coefficients by degrees: with weights of N(0, 1) the start is not thrown away."""
    steps, _ = recorded_fit(sd1, basis, [[make_face(1)]], Paper(momentum=0.0), monkeypatch)
    first, second = basis.transform(torch.stack([step.vectors[0] for step in steps[:2]]))
    turned = torch.rad2deg(torch.arccos((first * second).sum(-1).clamp(-1, 1)))
    assert (0.1 < turned).all() and (turned < 15).all(), turned


@pytest.mark.parametrize("num_vectors", [1, 2])
def test_textual_inversion_steps_are_the_published_ones(sd1, basis, monkeypatch, num_vectors):
    word = "a"
    method = TextualInversion(num_vectors=num_vectors, initializer_token=word)
    steps, drawn = recorded_fit(sd1, basis, [[make_face(1)]], method, monkeypatch)
    row = sd1.tokenizer(word, add_special_tokens=False).input_ids
    start = sd1.text_encoder.get_input_embeddings().weight[row].detach() if num_vectors == 1 else basis.mean
    assert torch.allclose(steps[0].vectors[0], start, atol=1e-6)
    free = start.clone().requires_grad_()
    optimizer = torch.optim.AdamW([free], lr=5e-3 * 2, weight_decay=0.01)
    after = replay(sd1, drawn, lambda i: free, plain_error, optimizer, tokens=num_vectors)
    for step, vectors in zip(steps[1:], after, strict=True):
        assert torch.allclose(step.vectors[0], vectors, atol=2e-5)
    assert steps[-1].identities[0].vectors.shape == (num_vectors, start.shape[1])


def test_cross_initialization_steps_are_the_published_ones(sd1, basis, monkeypatch):
    steps, drawn = recorded_fit(sd1, basis, [[make_face(1)]], CrossInitialization(reg_weight=0.5), monkeypatch)
    stock = Stock(sd1, 2)
    table = stock.pipe.text_encoder.get_input_embeddings()
    with torch.no_grad():
        table.weight[stock.rows] = basis.mean
        ids = stock.pipe.tokenizer("[0] [1]", return_tensors="pt").input_ids
        at = [int((ids[0] == row).nonzero()[0, 0]) for row in stock.rows]
        start = stock.pipe.text_encoder(ids)[0][0, at]
    assert torch.allclose(steps[0].vectors[0], start, atol=1e-5)
    free = start.clone().requires_grad_()

    def loss(stock, output, noisy, latents, noise, timestep, vectors):
        return mse_loss(output, noise) + 0.5 * pairwise_distance(vectors, start, p=2).mean()

    optimizer = torch.optim.AdamW([free], lr=0.000625 * 8, weight_decay=0.01)
    assert all(len(step.captions) == 8 for step in drawn)
    after = replay(sd1, drawn, lambda i: free, loss, optimizer)
    for step, vectors in zip(steps[1:], after, strict=True):
        assert torch.allclose(step.vectors[0], vectors, atol=2e-5)


class Equal(nn.Module):
    """A linear layer whose weights are used at a tenth."""

    def __init__(self, inputs, outputs, norm):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(outputs, inputs)), nn.Parameter(torch.zeros(outputs))
        self.norm = nn.LayerNorm(inputs) if norm else nn.Identity()

    def forward(self, x):
        return nn.functional.linear(self.norm(x), self.weight * 0.1, self.bias * 0.1)


def test_stable_identity_steps_are_the_published_ones(sd1, basis, monkeypatch):
    face = make_face(1)
    steps, drawn = recorded_fit(sd1, basis, [[face]], "stable-identity", monkeypatch, learning_rate=5e-3)
    rows = name_rows(sd1, basis.names)[0]
    mean, spread = rows.mean(0), rows.std(0)
    width, d = mean.numel(), len(face.feature)
    net = nn.Sequential(
        Equal(d, width, norm=False), nn.LeakyReLU(0.2), Equal(width, width, norm=True), nn.LayerNorm(width)
    )
    start = METHODS["stable-identity"]().start(context(sd1, basis, [[face]])).free[0]
    with torch.no_grad():
        first, second = start[: width * d], start[width * (d + 3) : width * (d + 3 + width)]
        net[0].weight.copy_(first.view(width, d))
        net[2].weight.copy_(second.view(width, width))
    assert first.std() == pytest.approx(0.02, rel=0.1) and second.std() == pytest.approx(0.02, rel=0.1)
    scale = sd1.vae.config.scaling_factor

    def loss(stock, output, noisy, latents, noise, timestep, vectors):
        weights = image_weights[len(losses)]
        losses.append(1)
        alpha = stock.alpha(timestep)
        if timestep > 600:
            return mse_loss(output * weights.sqrt(), noise * weights.sqrt())
        clean = (noisy - (1 - alpha).sqrt() * output) / alpha.sqrt()
        return mse_loss(clean * weights.sqrt() / scale, latents * weights.sqrt() / scale)

    losses, image_weights = [], weights_of_a_fit(sd1, face)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3, weight_decay=0.01)
    after = replay(
        sd1, drawn, lambda i: net(face.feature[None])[0].view(mean.shape) * spread + mean, loss, optimizer, clip=1.0
    )
    for step, vectors in zip(steps[1:], after, strict=True):
        assert torch.allclose(step.vectors[0], vectors, atol=2e-5)


def weights_of_a_fit(pipe, face):
    """Return the face's weight in each latent of the images that a fit of StableIdentity makes with the seed 0."""
    g, denoiser, found = torch.Generator().manual_seed(0), get_denoiser(pipe), []
    torch.randint(2**53, (), generator=g)  # where timesteps would begin if they were spread evenly
    for _ in range(STEPS):
        [seed] = torch.randint(2**62, (1,), generator=g).tolist()
        torch.rand(1, generator=g)
        torch.randint(len(CAPTIONS), (1,), generator=g)
        image = training_image(
            [face],
            size=denoiser.resolution,
            vae_scale_factor=denoiser.vae_scale_factor,
            augmentation=replace(StableIdentity.augmentation, scales=DEFAULTS["stable-identity"].scales),
            generator=torch.Generator().manual_seed(seed),
        )
        found.append(image.weights)
        denoiser.encode(image.pixels[None], g)
        torch.randn(1, denoiser.in_channels, *image.weights.shape[1:], generator=g)
    return found


@pytest.mark.parametrize("name", ["paper", "textual-inversion", "cross-initialization", "stable-identity"])
def test_every_image_has_its_own_caption_noise_and_place(sd1, basis, monkeypatch, name):
    _, drawn = recorded_fit(sd1, basis, [[make_face(1)]], name, monkeypatch, train_batch_size=6)
    captions = Counter(caption_of(text)[0] for step in drawn for text in step.captions)
    assert len(captions) > 6 and set(captions) <= set(CAPTIONS)
    assert len({int(t) for step in drawn for t in step.timesteps}) > 6
    latents = torch.cat([step.latents for step in drawn])
    assert all(not torch.equal(a, b) for i, a in enumerate(latents) for b in latents[:i]), "fresh samples each time"


def test_published_captions():
    assert len(PHRASES) == 81 and len(set(PHRASES)) == 57
    for phrase in ("a photo of a", "an illustration of a nice", "a depiction of the weird", "a rendition of the"):
        assert phrase in PHRASES
    for name in ("paper", "cross-initialization"):
        assert "a photo of a face of {} person" in DEFAULTS[name].templates
    for name in ("textual-inversion", "stable-identity"):
        assert "a photo of a {}" in DEFAULTS[name].templates


@pytest.mark.parametrize(
    ("name", "least", "most"), [("paper", 0.1, 1.0), ("stable-identity", 0.5, 1.0), ("textual-inversion", 1.0, 1.0)]
)
def test_published_images(name, least, most):
    augmentation = replace(METHODS[name].augmentation, scales=DEFAULTS[name].scales)
    boxes = torch.tensor(
        [
            training_image(
                [make_face(1)],
                size=200,
                vae_scale_factor=8,
                augmentation=augmentation,
                generator=torch.Generator().manual_seed(seed),
            ).box
            for seed in range(200)
        ]
    )
    top, left, height, width = boxes.unbind(1)
    assert least * 200 - 1 <= height.min() and height.max() <= most * 200
    assert ((top + height) <= 200).all() and ((left + width) <= 200).all()
    if least < most:
        assert height.min() < (least + 0.1) * 200 and height.max() > 0.9 * 200
        assert len(set(height.tolist())) > 50, "any size, not only some"
        ratio = (width / height)[(width < 200) & (height > 80)]
        assert 0.88 <= ratio.min() < 0.94 and 1.05 < ratio.max() <= 1.1


def test_of_the_published_sizes_those_count_that_a_card_knows():
    card = ModelCard(scales=(0.5, 0.75))
    sizes = {name: Recipe().completed(name, card).scales for name in DEFAULTS}
    assert sizes == {
        "celeb-basis": (0.5, 0.75),
        "paper": (0.5, 0.75),
        "textual-inversion": (0.75,),
        "cross-initialization": (0.75,),
        "stable-identity": (0.5, 0.75),
    }
    assert Recipe(scales=(0.2,)).completed("paper", card).scales == (0.2,)
    assert Recipe().completed("paper", ModelCard(scales=(0.05, 0.3, 0.75))).scales == (0.3, 0.75)
    assert Recipe().completed("stable-identity", ModelCard(scales=(0.05, 0.3))).scales == (0.3,)


@pytest.mark.parametrize("name", ["paper", "stable-identity"])
def test_faces_have_any_size_unless_a_card_says_which_ones_the_model_knows(name):
    def boxes(card):
        augmentation = augmentation_of(METHODS[name](), Recipe().completed(name, card), card)
        image = partial(training_image, [make_face(1)], size=64, vae_scale_factor=8, augmentation=augmentation)
        return [image(generator=torch.Generator().manual_seed(i)).box for i in range(40)]

    known = boxes(ModelCard(scales=(0.5, 1.0)))
    assert {side for *_, tall, wide in known for side in (tall, wide)} == {32, 64}
    assert all(length % 8 == 0 for box in known for length in box)
    assert len({tall for *_, tall, _ in boxes(ModelCard())}) > 10


def test_faces_are_whole_where_a_card_says_which_sizes_the_model_knows():
    method = METHODS["stable-identity"]()
    parts = [augmentation_of(method, Recipe(), card).crop for card in (ModelCard(), ModelCard(scales=(0.5, 1.0)))]
    assert parts == [0.75, 1.0]


def test_a_part_of_the_face_keeps_its_weights():
    face = make_face(1)
    one = Augmentation(scales=(1.0,), continuous=True, crop=0.75)
    image = training_image(
        [face], size=160, vae_scale_factor=1, augmentation=one, generator=torch.Generator().manual_seed(4)
    )
    unit = 160 / 12  # of the 16 pixels of the crop 12 are seen
    assert any(
        torch.equal(image.weights, face_weights(160, -down * unit, -across * unit, 16 * unit, 16 * unit))
        for down in range(5)
        for across in range(5)
    )
    assert image.weights.max() == 1


def test_published_defaults():
    assert DEFAULTS["paper"][:3] == (400, 5e-3 * 2, 2)
    assert DEFAULTS["textual-inversion"][:3] == (6100, 5e-3 * 2, 2)
    assert DEFAULTS["cross-initialization"][:3] == (320, 0.000625 * 8, 8)
    assert DEFAULTS["stable-identity"][:3] == (450, 5e-5, 1)


def test_methods_that_make_new_images_take_no_number_of_them(sd1, basis):
    with pytest.raises(IdentityError, match="makes new images"):
        next(fit_steps(sd1, basis, [[make_face(1)]], ["<a>"], Recipe(num_train_images=4), method="paper"))


def test_a_word_of_several_tokens_starts_nothing(sd1, basis):
    method = TextualInversion(initializer_token=NAMES[0])
    with pytest.raises(IdentityError, match="one token"):
        next(fit_steps(sd1, basis, [[make_face(1)]], ["<a>"], Recipe(), method=method))

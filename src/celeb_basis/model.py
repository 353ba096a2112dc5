"""Model: a checkpoint with all that is needed to fit people, draw them and measure them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from .backend.card import DEFAULT_MODEL, ModelCard
from .backend.hub import cache_folder
from .backend.known_models import find_model, remember_model
from .backend.load import load_pipeline
from .backend.pipeline import Pipeline, model_card, model_name
from .backend.text_encoders import fingerprint, nonsense_names, unusable_names
from .basis import CelebBasis, celebrity_names
from .casting import Audition, cast
from .directions import Directions
from .errors import BasisError, IdentityError, ModelError, OutputError, PhotoError
from .evaluation.evaluate import Person, evaluate_people
from .evaluation.judge import Judge, get_judge
from .evaluation.traits import TraitReader, get_trait_reader
from .faces.face import Face, FaceReader, find_person, mean_feature
from .faces.likeness import likeness
from .faces.photo import open_photos
from .faces.reader import get_face_reader
from .fit.face_loss import face_loss_steps
from .fit.loop import FitStep, fit_steps
from .fit.methods import CelebBasisMethod, Method, get_method
from .fit.recipe import DEFAULT_METHOD, Recipe, steps_from_mean
from .generate import generate
from .identity import Identity
from .instant_map import InstantMap
from .known_names import Portraits, draw_portraits, find_known_names, missing_images, settings_of
from .milestones import keep_best
from .notation import excerpt, placeholder_token, slugify

logger = logging.getLogger(__name__)

MADE_UP_NAMES = 40  # drawn among the others, to see what the model draws for people it does not know

Photo = str | Path | Image.Image | Face
Photos = Photo | Sequence[Photo]
"""One photo of a person, or several: files, folders of them, pictures, or faces that were found in them."""


class Model:
    """A text-to-image pipeline with its celeb basis, its instant map and its face reader.

    pipe: the pipeline of diffusers, which no method changes: it is bit for bit as before afterwards.
    instant_map: the map from faces to coefficients that fits start from; None starts them at the mean person.
    directions: the traits of which a person can have more or less; None where nobody learnt them.
    faces: the file of the faces that the model draws for its celebrities.
    """

    def __init__(
        self,
        pipe: Pipeline,
        *,
        basis: CelebBasis | None = None,
        instant_map: InstantMap | None = None,
        directions: Directions | None = None,
        faces: Path | None = None,
        face_reader: FaceReader | str | None = None,
    ) -> None:
        self.pipe = pipe
        self.instant_map = instant_map
        self.directions = directions
        self._faces = faces
        self._given_basis = basis
        self._given_reader = face_reader
        if basis is not None:
            basis.check(pipe)
        if instant_map is not None:
            instant_map.check(self.basis)
        if directions is not None:
            directions.check(self.basis)

    @classmethod
    def load(
        cls,
        name: str | Path = DEFAULT_MODEL,
        *,
        basis: CelebBasis | str | Path | None = None,
        instant_map: InstantMap | str | Path | None = None,
        face_reader: FaceReader | str | None = None,
        **loading: Any,
    ) -> Model:
        """Load a model and find out what belongs to it.

        name: "miniature", "portraits", a hub id like "stable-diffusion-v1-5/stable-diffusion-v1-5", a folder in
            diffusers' format, or a .safetensors file.
        basis: a basis, its file, or a folder with a card that names one. By default the one that the model's card
            names, or else one that is made of the shipped names when it is first needed, and kept in the user's cache.
        instant_map: a map or its file; by default the one beside the basis, if there is one.
        face_reader: see `get_face_reader`.
        loading: device, dtype, revision, variant, config and safety_checker of `load_pipeline`.

        Raises ModelError for a model that cannot be loaded, BasisError for a basis or a map of another model.
        """
        own_basis, own_map = resolve_basis(name, basis, instant_map)
        beside = resolve_beside(name, basis)
        pipe = load_pipeline(name, **loading)
        model = cls(pipe, basis=own_basis, instant_map=own_map, face_reader=face_reader, **beside)
        remember_model(name, fingerprint(model.pipe))
        return model

    @classmethod
    def from_pipeline(
        cls,
        pipe: Any,
        *,
        basis: CelebBasis | str | Path | None = None,
        instant_map: InstantMap | str | Path | None = None,
        face_reader: FaceReader | str | None = None,
    ) -> Model:
        """Wrap a pipeline that is loaded already; the arguments are those of `load`."""
        own_basis, own_map = resolve_basis(model_card(pipe), basis, instant_map)
        beside = resolve_beside(model_card(pipe), basis)
        return cls(pipe, basis=own_basis, instant_map=own_map, face_reader=face_reader, **beside)

    @property
    def name(self) -> str:
        """Return the name under which the pipeline was loaded."""
        return model_name(self.pipe)

    @property
    def card(self) -> ModelCard:
        """Return what the model recommends for itself."""
        return model_card(self.pipe)

    @cached_property
    def basis(self) -> CelebBasis:
        """Return the space in which people are learnt; make it of the shipped names where nobody gave one."""
        basis = self._given_basis or basis_of_celebrities(self.pipe)
        # Identities say which model they were made for: this one, wherever its text encoders' basis was made.
        return replace(basis, model=self.name)

    @property
    def default_train_steps(self) -> int:
        """Return how many steps a fit takes from the start that this model has."""
        return CelebBasisMethod().max_train_steps(self.instant_map, steps_from_mean(DEFAULT_METHOD, self.card))

    @cached_property
    def face_reader(self) -> FaceReader:
        """Return who finds and describes faces. Raises ModelError where what it runs on is missing."""
        if self._given_reader is None or isinstance(self._given_reader, str):
            return get_face_reader(self.pipe, self._given_reader)
        return self._given_reader

    def get_judge(self, identities: Sequence[Identity], **options: Any) -> Judge:
        """Return who measures pictures of these identities; options are those of `evaluation.judge.get_judge`."""
        return get_judge(self.pipe, identities, **options)

    def find_faces(self, photos: Photos, *, largest_face: bool = False, mixed: bool = False) -> list[Face]:
        """Find one person's face in each of their photos.

        Photos that do not help are left out, and the log says so. Faces are taken as they are.

        Raises PhotoError for a photo that cannot be read, NoFaceError where no photo has a face, and
        SeveralFacesError where it is unclear whose photo one is; largest_face then takes the largest. Raises PhotoError
        for photos of different people, too, unless mixed says that a mix of them is meant.
        """
        given = [photos] if isinstance(photos, str | Path | Image.Image | Face) else list(photos)
        if not given:
            raise PhotoError("give at least one photo of each person")
        known = [photo for photo in given if isinstance(photo, Face)]
        images = open_photos([photo for photo in given if not isinstance(photo, Face)])
        return known + (find_person(images, self.face_reader, largest_face=largest_face, mixed=mixed) if images else [])

    def fit(
        self,
        photos: Photos,
        name: str | None = None,
        *,
        method: str | Method = "celeb-basis",
        largest_face: bool = False,
        mixed: bool = False,
        progress: Callable[[FitStep], None] | None = None,
        **recipe: Any,
    ) -> Identity:
        """Learn one person from one or several photos.

        name: what prompts call the person: "annika" is <annika>; by default the name of the first photo's file.
        method, recipe: see `fit_steps`. progress: called after every step.
        """
        for step in self.fit_steps(photos, name, method=method, largest_face=largest_face, mixed=mixed, **recipe):
            if progress is not None:
                progress(step)
        return step.identities[0]

    def fit_steps(
        self,
        photos: Photos | Mapping[str, Photos],
        name: str | None = None,
        *,
        method: str | Method = "celeb-basis",
        largest_face: bool = False,
        mixed: bool = False,
        **recipe: Any,
    ) -> Iterator[FitStep]:
        """Yield the start and every step of learning a person, or several at once, each as if alone.

        Between two steps the caller may draw with the model, show progress, or stop. At milestones the people are
        drawn, see `milestones.keep_best`; the last step has each of them as the best milestone has them.

        photos: of one person; or the photos of several people by their names.
        method: "celeb-basis", "paper", "textual-inversion", "cross-initialization" or "stable-identity".
        recipe: the fields of `Recipe`, such as max_train_steps=50.

        Raises PromptError for a name that this model cannot take, IdentityError for a recipe that cannot be followed,
        and what `find_faces` raises.
        """
        people = dict(photos) if isinstance(photos, Mapping) else {name or name_of_photos(photos): photos}
        tokens = [placeholder_token(person) for person in people]
        settings = Recipe(**recipe)
        if self.instant_map is None and settings.max_train_steps == 0:
            raise IdentityError(
                "without training every person would be the mean person: give an instant map of this basis, "
                "or take some steps",
                argument="instant_map",
            )
        faces = [self.find_faces(own, largest_face=largest_face, mixed=mixed) for own in people.values()]
        method = get_method(method)
        steps = fit_steps(
            self.pipe,
            self.basis,
            faces,
            tokens,
            settings,
            method=method,
            instant_map=self.instant_map,
            face_reader=self._fits_reader(method, settings),
        )
        num_milestones = settings.completed(method.name, self.card).num_milestones
        reader = self._milestones_reader(faces) if num_milestones else None
        return keep_best(self.pipe, steps, faces, reader, num_milestones) if reader and num_milestones else steps

    def _fits_reader(self, method: Method, recipe: Recipe) -> FaceReader | None:
        """Return the face reader if a fit needs it; reading training images is done without where there is none."""
        if face_loss_steps(self.pipe, method, recipe):
            return self.face_reader
        if method.reads_images:
            with suppress(ModelError):
                return self.face_reader
        return None

    def _milestones_reader(self, people: Sequence[Sequence[Face]]) -> FaceReader | None:
        """Return who can compare pictures with these faces; where nobody can, the log says so."""
        readers = {face.face_reader for faces in people for face in faces}
        try:
            reader = self.face_reader
            if readers == {reader.name}:
                return reader
            why = f"the photos were read by {excerpt(' and '.join(sorted(readers)))}, not by {reader.name}"
        except ModelError as error:
            why = error.message
        logger.info(f"no milestones are drawn, and the last step is kept: {why}")
        return None

    def generate(
        self, prompt: str | Sequence[str], identities: Sequence[Identity] = (), **options: Any
    ) -> list[Image.Image]:
        """Draw images of a prompt, or of several, that name identities by their tokens; see `generate.generate`."""
        return generate(self.pipe, prompt, identities, **options)

    def likeness(self, image: Image.Image, people: Mapping[str, Photos | Tensor]) -> dict[str, float | None]:
        """Return how alike each person in a picture is to their own photos: a cosine, None for who is not seen.

        people: their photos, faces or features by name. The face reader is the one that fits use, so this compares
        pictures of a person; what is reported should come from `evaluate`, whose judge fitted nobody.
        """
        features = {
            name: own if isinstance(own, Tensor) else mean_feature(self.find_faces(own)) for name, own in people.items()
        }
        return likeness(image, features, self.face_reader)

    def evaluate(
        self,
        identity: Identity,
        photos: str | Path | Image.Image | Sequence[str | Path | Image.Image],
        *,
        largest_face: bool = False,
        **options: Any,
    ) -> dict[str, Any]:
        """Measure an identity against photos of the person, and the model's celebrities beside it.

        options: those of `evaluation.evaluate.evaluate_people`.
        """
        given = [photos] if isinstance(photos, str | Path | Image.Image) else list(photos)
        person = Person(identity, open_photos(given))
        report, _ = evaluate_people(self.pipe, [person], basis=self._given_basis, largest_face=largest_face, **options)
        return report

    def find_known_names(self, names: Sequence[str] | None = None, **options: Any) -> Iterator[tuple[Portraits, int]]:
        """Draw names to find out which of them the model knows; yield what is there, and how many images are to come.

        names: by default those of the model's own basis, or else the shipped ones.
        options: those of `known_names.find_known_names`.
        """
        wanted = list(names or self.names)
        unusable = unusable_names(self.pipe, wanted)
        people = [name for name in wanted if name not in unusable]
        return find_known_names(self.pipe, people, self.made_up_names(people), self.face_reader, **options)

    @property
    def names(self) -> list[str]:
        """Return the names that the model may know: those of its card's basis, or else the shipped ones."""
        return list(CelebBasis.load(self.card.basis).names) if self.card.basis else celebrity_names()

    def made_up_names(self, names: Sequence[str]) -> list[str]:
        """Return names that nobody has, to compare with; none has a word of the names given."""
        return nonsense_names(self.pipe, [*names, *self.names], MADE_UP_NAMES)

    def trait_reader(self, clip: str | None = None) -> TraitReader:
        """Return who reads traits off faces: the model's own face reader where it does, else a CLIP beside it.

        clip: hub id or folder. Raises ModelError where the CLIP cannot be had.
        """
        return get_trait_reader(self.face_reader, clip)

    def draw_traits(
        self, names: Sequence[str], reader: TraitReader, *, start: Portraits | None = None, **options: Any
    ) -> Iterator[Portraits]:
        """Draw two pictures of each name for a reader of traits; yield what there is after every few names.

        start: what is drawn already. options: those of `known_names.draw_portraits`; by default as `start` was drawn.
        """
        if not missing_images(start, names, 2):
            return iter(())
        ways = settings_of(self.pipe, start)._asdict()
        asked = {key: value for key, value in options.items() if value is not None}
        if not asked.keys() & ways.keys():
            asked |= {key: value for key, value in ways.items() if value is not None}
        return draw_portraits(self.pipe, names, reader, num_images=2, start=start, **asked)

    def sample(self, name: str, *, seed: int = 0, more: Mapping[str, float] | None = None) -> Identity:
        """Make up a person who does not exist, the same in every picture; the same seed gives the same person.

        more: how much more of which traits, in the celebrities' standard deviations; a trait of `directions` each.
        """
        return sample_person(self.basis, self.directions, name, seed, more or {})

    def cast(
        self,
        name: str,
        count: int,
        *,
        unlike: float | None = None,
        seed: int = 0,
        more: Mapping[str, float] | None = None,
    ) -> Iterator[Audition]:
        """Make up several people who are like nobody in the basis, nor like one another; yield after each try.

        The people are called NAME-1, NAME-2 and so on. See `casting.cast`.
        """
        if self._faces is None:
            raise BasisError(NO_FACES.format(self.name))
        token, faces, known = placeholder_token(name)[1:-1], Portraits.load(self._faces), set(self.basis.names)

        def invent(number: int, place: int) -> Identity:
            return self.sample(f"{token}-{place}", seed=number, more=more)

        faces = faces.of([each for each in faces.names if each in known])
        return cast(self.pipe, faces, self.face_reader, invent, count, unlike=unlike, seed=seed)


NO_DIRECTIONS = (
    "{} has no directions of traits: learn them with `celeb-basis basis --directions -o FOLDER`, and name the folder "
    "as basis"
)
NO_FACES = (
    "{} has no faces of its celebrities to compare with: draw them with `celeb-basis basis --filter -o FOLDER`, and "
    "name the folder as basis"
)


def sample_person(
    basis: CelebBasis, directions: Directions | None, name: str, seed: int, more: Mapping[str, float]
) -> Identity:
    """Make up a person in a basis; see `Model.sample`. Raises BasisError for a trait of which no direction is known."""
    identity = Identity.sample(basis, placeholder_token(name), torch.Generator().manual_seed(seed))
    if more and directions is None:
        raise BasisError(NO_DIRECTIONS.format(basis.model), argument="more")
    for trait, amount in more.items():
        assert directions is not None
        identity = identity.moved(directions.of(basis, trait), amount)
    return identity


def resolve_basis(
    model: str | Path | ModelCard,
    basis: CelebBasis | str | Path | None = None,
    instant_map: InstantMap | str | Path | None = None,
) -> tuple[CelebBasis | None, InstantMap | None]:
    """Return the basis and the instant map that are given, or that belong to a model; no weights are loaded.

    model: its name or its card. Raises BasisError for files that hold no such thing.
    """
    if isinstance(instant_map, str | Path):
        instant_map = InstantMap.load(instant_map)
    if isinstance(basis, str | Path):
        return CelebBasis.load(basis), instant_map or InstantMap.beside(Path(basis))
    if basis is not None:
        return basis, instant_map
    card = model if isinstance(model, ModelCard) else ModelCard.of(model)
    if instant_map is None and card.instant_map is not None:
        instant_map = InstantMap.load(card.instant_map)
    return (None if card.basis is None else CelebBasis.load(card.basis)), instant_map


def resolve_beside(model: str | Path | ModelCard, basis: CelebBasis | str | Path | None = None) -> dict[str, Any]:
    """Return what else belongs to the basis that `resolve_basis` finds: directions, and the file of its names' faces.

    Raises BasisError for a file that holds no directions.
    """
    if isinstance(basis, CelebBasis):
        return {}
    if basis is not None and not Path(basis).is_dir():
        files = {key: Path(basis).with_suffix(f".{key}.safetensors") for key in ("directions", "faces")}
        directions, faces = (file if file.is_file() else None for file in files.values())
    else:
        place = model if basis is None else basis
        card = place if isinstance(place, ModelCard) else ModelCard.of(place)
        directions, faces = card.directions, card.faces
    return {"directions": None if directions is None else Directions.load(directions), "faces": faces}


def basis_of_celebrities(pipe: Pipeline) -> CelebBasis:
    """Return the basis of those shipped names that are two tokens in a model, from the user's cache where it has it."""
    names = celebrity_names()
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    file = cache_folder() / "bases" / f"{fingerprint(pipe)[:16]}-{digest[:16]}.safetensors"
    if file.is_file():
        try:
            basis = CelebBasis.load(file)
            basis.check(pipe)
            return basis
        except BasisError as error:
            logger.info(f"the basis kept earlier is made again ({error})")
    basis = CelebBasis.from_pipeline(pipe, names)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        basis.save(file)
        kept = f"kept in {file}"
    except (OSError, OutputError) as error:
        kept = f"which cannot be kept ({error})"
    logger.info(
        f"no basis was given: made one of the {len(basis.names)} shipped names that are two tokens here, {kept}"
    )
    return basis


def model_of_identities(identities: Sequence[Identity]) -> str:
    """Return the name of the model that identities were made for; "miniature" where there are none.

    Files name a folder or a file by its last part alone; where it lies, the user's cache tells.

    Raises ModelError where identities are of several models, or where that model would have to be downloaded.
    """
    made_for = {identity.model: identity.fingerprint for identity in identities if identity.model}
    if not made_for:
        return DEFAULT_MODEL
    if len(made_for) > 1:
        names = excerpt(" and ".join(sorted(made_for)))
        raise ModelError(f"these identities were made for several models, {names}: name one", argument="model")
    [(name, encoders)] = made_for.items()
    found = find_model(name, encoders)
    if found is None:
        raise ModelError(
            f"{excerpt(name)} is not on this machine, or was moved: name the model, or where it lies", argument="model"
        )
    return found


def name_of_photos(photos: Photos) -> str:
    """Return the name for a person whom nobody named: that of the first photo's file."""
    first = photos if isinstance(photos, str | Path | Image.Image | Face) else next(iter(photos), None)
    path = first.info.get("path", "") if isinstance(first, Image.Image) else first
    return slugify(Path(path).stem) if isinstance(path, str | Path) and str(path) else "person"

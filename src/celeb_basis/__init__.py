"""Put a person from one photograph into any picture a text-to-image model can draw.

Public names are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .basis.basis import CelebBasis as CelebBasis
    from .basis.celebrities import celebrities as celebrities
    from .basis.instant_map import InstantMap as InstantMap
    from .basis.portraits import Portraits as Portraits
    from .drawing.generate import generate as generate
    from .drawing.picture_file import file_stem as file_stem
    from .drawing.picture_file import save_picture as save_picture
    from .drawing.portraits import draw_portraits as draw_portraits
    from .drawing.portraits import survey as survey
    from .errors import BasisError as BasisError
    from .errors import CelebBasisError as CelebBasisError
    from .errors import FleetError as FleetError
    from .errors import IdentityError as IdentityError
    from .errors import ModelError as ModelError
    from .errors import NoFaceError as NoFaceError
    from .errors import OutputError as OutputError
    from .errors import PhotoError as PhotoError
    from .errors import PromptError as PromptError
    from .errors import SeveralFacesError as SeveralFacesError
    from .faces.face import Face as Face
    from .faces.face import find_face as find_face
    from .faces.face_reader import face_reader as face_reader
    from .faces.person import find_person as find_person
    from .faces.photo import open_photo as open_photo
    from .identity import Identity as Identity
    from .measuring.evaluate import Person as Person
    from .measuring.evaluate import evaluate as evaluate
    from .measuring.evaluate import evaluate_people as evaluate_people
    from .models.card import DEFAULT_MODEL as DEFAULT_MODEL
    from .models.card import ModelCard as ModelCard
    from .models.card import card_of as card_of
    from .models.encoders import placeholders as placeholders
    from .models.encoders import vocabulary as vocabulary
    from .models.load import load_pipeline as load_pipeline
    from .programs import in_prompts as in_prompts
    from .programs import name_advice as name_advice
    from .training.fit import FitStep as FitStep
    from .training.fit import fit_identities as fit_identities
    from .training.fit import fit_identity as fit_identity
    from .training.fit import fit_steps as fit_steps
    from .training.methods import CelebBasisMethod as CelebBasisMethod
    from .training.methods import CrossInitialization as CrossInitialization
    from .training.methods import Paper as Paper
    from .training.methods import StableIdentity as StableIdentity
    from .training.methods import TextualInversion as TextualInversion
    from .training.recipe import Recipe as Recipe

_PUBLIC = {
    "basis.basis": ("CelebBasis",),
    "basis.celebrities": ("celebrities",),
    "basis.instant_map": ("InstantMap",),
    "basis.portraits": ("Portraits",),
    "drawing.generate": ("generate",),
    "drawing.picture_file": ("file_stem", "save_picture"),
    "drawing.portraits": ("draw_portraits", "survey"),
    "errors": (
        "BasisError",
        "CelebBasisError",
        "FleetError",
        "IdentityError",
        "ModelError",
        "NoFaceError",
        "OutputError",
        "PhotoError",
        "PromptError",
        "SeveralFacesError",
    ),
    "faces.face": ("Face", "find_face"),
    "faces.face_reader": ("face_reader",),
    "faces.person": ("find_person",),
    "faces.photo": ("open_photo",),
    "identity": ("Identity",),
    "measuring.evaluate": ("Person", "evaluate", "evaluate_people"),
    "models.encoders": ("placeholders", "vocabulary"),
    "models.card": ("DEFAULT_MODEL", "ModelCard", "card_of"),
    "models.load": ("load_pipeline",),
    "programs": ("in_prompts", "name_advice"),
    "training.fit": ("FitStep", "fit_identities", "fit_identity", "fit_steps"),
    "training.methods": (
        "CelebBasisMethod",
        "CrossInitialization",
        "Paper",
        "StableIdentity",
        "TextualInversion",
    ),
    "training.recipe": ("Recipe",),
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

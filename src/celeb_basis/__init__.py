"""Put a person from one photograph into any picture a text-to-image model can draw.

The public names are loaded when first used, so that importing the package costs nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .basis import CelebBasis as CelebBasis
    from .errors import BasisError as BasisError
    from .errors import CelebBasisError as CelebBasisError
    from .errors import IdentityError as IdentityError
    from .errors import ModelError as ModelError
    from .errors import NoFaceError as NoFaceError
    from .errors import OutputError as OutputError
    from .errors import PhotoError as PhotoError
    from .errors import PromptError as PromptError
    from .errors import SeveralFacesError as SeveralFacesError
    from .face import Face as Face
    from .face import find_face as find_face
    from .face import open_photo as open_photo
    from .fit import FitStep as FitStep
    from .fit import fit_identities as fit_identities
    from .fit import fit_identity as fit_identity
    from .fit import fit_steps as fit_steps
    from .fit import identities_at as identities_at
    from .generate import file_stem as file_stem
    from .generate import generate as generate
    from .generate import save_picture as save_picture
    from .identity import Identity as Identity
    from .instant import InstantMap as InstantMap
    from .known import Portraits as Portraits
    from .known import draw_portraits as draw_portraits
    from .names import celebrities as celebrities
    from .pipeline import face_reader as face_reader
    from .pipeline import load_pipeline as load_pipeline
    from .recipe import Recipe as Recipe
    from .tokens import placeholders as placeholders

_ROOMS = {
    "basis": ("CelebBasis",),
    "errors": (
        "CelebBasisError",
        "ModelError",
        "BasisError",
        "IdentityError",
        "PromptError",
        "PhotoError",
        "NoFaceError",
        "SeveralFacesError",
        "OutputError",
    ),
    "face": ("Face", "find_face", "open_photo"),
    "fit": ("FitStep", "fit_identities", "fit_identity", "fit_steps", "identities_at"),
    "generate": ("file_stem", "generate", "save_picture"),
    "identity": ("Identity",),
    "instant": ("InstantMap",),
    "known": ("Portraits", "draw_portraits"),
    "names": ("celebrities",),
    "pipeline": ("face_reader", "load_pipeline"),
    "recipe": ("Recipe",),
    "tokens": ("placeholders",),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `celeb_basis.generate` the function, also after its module of that name was imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _HOME):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

"""As much of ComfyUI as the pack's nodes need to be called: its folders, and the form of a node; no model in it."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

from server import PACK

NAME = "celeb_basis_pack"


class Kind:
    """A kind of input and output, such as io.String; what a schema says of one is kept."""

    @staticmethod
    def Input(name, **facts):
        return SimpleNamespace(name=name, **facts)

    @staticmethod
    def Output(**facts):
        return SimpleNamespace(**facts)


class Node:
    """What nodes derive from."""


class Output:
    """What a node returns."""

    def __init__(self, *values, ui=None):
        self.values, self.ui = values, ui


def start(models, patch):
    """The pack's module of nodes in a ComfyUI whose models are in a folder; `patch` is pytest's monkeypatch."""

    def folder(kind):
        return models / kind

    def found(kind, name):
        path = folder(kind) / name
        return str(path) if path.is_file() else None

    def found_or_raise(kind, name):
        if found(kind, name) is None:
            raise FileNotFoundError(f"Model in folder {kind!r} with filename {name!r} not found.")
        return found(kind, name)

    kinds = {name: Kind for name in ("Boolean", "Clip", "Combo", "Float", "Image", "Int", "Model", "String", "Vae")}
    io = SimpleNamespace(**kinds, Custom=lambda _: Kind, ComfyNode=Node, NodeOutput=Output, Schema=SimpleNamespace)
    paths = {
        "models_dir": str(models),
        "add_model_folder_path": lambda kind, path: None,
        "get_filename_list": lambda kind: sorted(file.name for file in folder(kind).glob("*")),
        "get_folder_paths": lambda kind: [str(folder(kind))],
        "get_full_path": found,
        "get_full_path_or_raise": found_or_raise,
    }
    modules = {
        "comfy": {}, "comfy.utils": {}, "comfy.model_management": {}, "comfy_api": {}, "folder_paths": paths,
        "comfy_api.latest": {"ComfyExtension": object, "io": io, "ui": SimpleNamespace(PreviewText=str)},
    }  # fmt: skip
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        patch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location(NAME, PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    patch.setitem(sys.modules, NAME, importlib.util.module_from_spec(spec))
    for part in ("nodes", "pipeline", "text"):  # of another ComfyUI
        patch.delitem(sys.modules, f"{NAME}.{part}", raising=False)
    spec.loader.exec_module(sys.modules[NAME])
    return sys.modules[f"{NAME}.nodes"]


def call(node, **inputs):
    """What a node returns, or what ComfyUI would show and log of its error: any exception's text."""
    try:
        return node.execute(**inputs)
    except Exception as error:
        return str(error)

"""The nodes."""

import functools
import hashlib
from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image

from celeb_basis import CelebBasisError, Identity, Model, PhotoError
from celeb_basis.backend.text_encoders import check_placeholder, vocabulary
from celeb_basis.embedding_io import name_advice
from celeb_basis.errors import one_line
from celeb_basis.instant_map import SUFFIX
from celeb_basis.limits import MAX_PHOTOS

from .pipeline import ComfyPipeline, trainable
from .text import with_identity

CATEGORY = "celeb-basis"
IdentityType = io.Custom("CELEB_BASIS_IDENTITY")
BASES = "celeb_basis"  # the folder of bases and instant maps, in ComfyUI's models
MADE = "made from this model"
PREVIEW_STEPS = 8  # of the sampler
STEPS = "-1 takes as many as help; 0 takes the instant map's answer."

folder_paths.add_model_folder_path(BASES, str(Path(folder_paths.models_dir) / BASES))


def digest(path):
    """A hash of a file, by which ComfyUI sees that it has changed; read in pieces, as any file may lie there."""
    if not path or not Path(path).is_file():
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def in_one_line(execute):
    """Let errors of celeb-basis reach ComfyUI as one short line, whatever stands in a name or a file."""

    @functools.wraps(execute)
    def run(cls, **inputs):
        try:
            return execute(cls, **inputs)
        except (CelebBasisError, OSError) as error:
            raise CelebBasisError(one_line(str(error))) from error

    return run


def token_of(name):
    """annika or <annika> -> <annika>"""
    return f"<{name.strip().removeprefix('<').removesuffix('>').lower()}>"


def bases():
    """The bases to choose from; a map beside one is not one."""
    return [MADE, *(name for name in folder_paths.get_filename_list(BASES) if not name.endswith(SUFFIX))]


def basis_path(name):
    """The file of a basis, or None for one that is made."""
    return None if name == MADE else Path(folder_paths.get_full_path_or_raise(BASES, name))


def model_with(pipe, basis):
    """The model of a pipeline with the basis asked for and the map beside it; without a file with its own, or made."""
    return Model.from_pipeline(pipe, basis=basis_path(basis))


class LoadIdentity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CelebBasisLoadIdentity",
            display_name="Load Identity",
            category=CATEGORY,
            description="A person from a file in models/embeddings.",
            inputs=[io.Combo.Input("file", options=folder_paths.get_filename_list("embeddings"))],
            outputs=[IdentityType.Output(display_name="identity")],
        )

    @classmethod
    @in_one_line
    def execute(cls, file):
        return io.NodeOutput(Identity.load(folder_paths.get_full_path_or_raise("embeddings", file)))

    @classmethod
    def fingerprint_inputs(cls, file):
        return digest(folder_paths.get_full_path("embeddings", file))


class SampleIdentity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CelebBasisSampleIdentity",
            display_name="Make Up Identity",
            category=CATEGORY,
            description="A person who does not exist, the same for the same seed.",
            inputs=[
                io.Clip.Input("clip"),
                io.String.Input("name", default="mirelle"),
                # Without a say, ComfyUI would draw a new seed for every run, and so make another person each time.
                io.Int.Input("seed", default=0, min=0, max=2**53, control_after_generate=False),
                io.Combo.Input("basis", options=bases(), default=MADE),
            ],
            outputs=[IdentityType.Output(display_name="identity")],
        )

    @classmethod
    @in_one_line
    def execute(cls, clip, name, seed, basis):
        with torch.inference_mode(False):  # a fit may use the same basis, and needs its gradients
            pipe = ComfyPipeline(clip)
            check_placeholder(pipe, token_of(name))
            return io.NodeOutput(model_with(pipe, basis).sample(token_of(name), seed=seed))

    @classmethod
    def fingerprint_inputs(cls, clip, name, seed, basis):
        return digest(basis_path(basis))


class BlendIdentities(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CelebBasisBlendIdentities",
            display_name="Blend Identities",
            category=CATEGORY,
            description="The person between two others.",
            inputs=[
                IdentityType.Input("a"),
                IdentityType.Input("b"),
                io.Float.Input("weight", default=0.5, min=0.0, max=1.0, step=0.05, tooltip="The share of b."),
                io.String.Input("name", default="bodil"),
            ],
            outputs=[IdentityType.Output(display_name="identity")],
        )

    @classmethod
    @in_one_line
    def execute(cls, a, b, weight, name):
        return io.NodeOutput(a.blend(b, weight, token_of(name)))


class ApplyIdentity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CelebBasisApplyIdentity",
            display_name="Apply Identity",
            category=CATEGORY,
            description="Lets prompts of this CLIP name the person, like <annika>. Chain it for several people.",
            inputs=[io.Clip.Input("clip"), IdentityType.Input("identity")],
            outputs=[io.Clip.Output()],
        )

    @classmethod
    @in_one_line
    def execute(cls, clip, identity):
        identity.check(ComfyPipeline(clip))
        return io.NodeOutput(with_identity(clip, identity))


class SaveIdentity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CelebBasisSaveIdentity",
            display_name="Save Identity",
            category=CATEGORY,
            description="Writes NAME.safetensors to models/embeddings, where prompts find it as embedding:NAME.",
            inputs=[
                IdentityType.Input("identity"),
                io.Boolean.Input("overwrite", default=False, tooltip="Replace a file of the same name."),
            ],
            outputs=[IdentityType.Output(display_name="identity")],
            is_output_node=True,
        )

    @classmethod
    @in_one_line
    def execute(cls, identity, overwrite):
        folder = Path(folder_paths.get_folder_paths("embeddings")[0])
        folder.mkdir(parents=True, exist_ok=True)
        name = identity.placeholder_token[1:-1]
        path = folder / f"{name}.safetensors"
        if path.exists() and not overwrite and not Identity.load(path).vectors.equal(identity.vectors):
            raise CelebBasisError(f"there is another person in {path}: choose another name, or switch overwrite on")
        identity.save(path)
        advice = name_advice(name)
        lines = [str(path), f"In prompts: embedding:{name}", *([f"Elsewhere: {advice}"] if advice else [])]
        return io.NodeOutput(identity, ui=ui.PreviewText("\n".join(lines)))

    @classmethod
    def fingerprint_inputs(cls, identity, overwrite):
        return float("nan")  # a file that was moved away is written again


class FitIdentity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CelebBasisFitIdentity",
            display_name="Fit Identity",
            category=CATEGORY,
            description="Learns the person in a photo; several images are photos of the same person.",
            inputs=[
                io.Model.Input("model"),
                io.Clip.Input("clip"),
                io.Vae.Input("vae"),
                io.Image.Input("image"),
                io.String.Input("name", default="annika", tooltip="Prompts write it as <annika>."),
                io.Int.Input("steps", default=-1, min=-1, max=2000, tooltip=STEPS),
                io.Int.Input("seed", default=0, min=0, max=2**53, control_after_generate=False),
                io.Combo.Input("basis", options=bases(), default=MADE, tooltip="A file in models/celeb_basis."),
                io.Boolean.Input("largest_face", default=False, tooltip="If there are several, take the largest."),
                io.Boolean.Input("preview", default=True, tooltip="Draw the person now and then during the fit."),
            ],
            outputs=[IdentityType.Output(display_name="identity")],
        )

    @classmethod
    @in_one_line
    def execute(cls, model, clip, vae, image, name, steps, seed, basis, largest_face, preview):
        token = token_of(name)
        bar = comfy.utils.ProgressBar(max(steps, 1))
        with trainable(model, clip, vae) as pipe:
            check_placeholder(pipe, token)
            # These pipelines cannot draw by themselves, so there are no milestones.
            recipe = {"max_train_steps": None if steps < 0 else steps, "seed": seed, "num_milestones": 0}
            fit = model_with(pipe, basis).fit_steps(_photos(image), token, largest_face=largest_face, **recipe)
            for at in fit:
                comfy.model_management.throw_exception_if_processing_interrupted()
                [identity] = at.identities
                picture = _portrait(pipe, vae, identity, seed) if preview and at.is_preview else None
                bar.update_absolute(at.step, max(at.max_train_steps, 1), preview=picture and ("JPEG", picture, 512))
            known = vocabulary(pipe)
        if advice := name_advice(token[1:-1], known):
            print(f"celeb-basis: {advice}")
        return io.NodeOutput(identity)

    @classmethod
    def fingerprint_inputs(cls, basis, **others):
        path = basis_path(basis)
        return digest(path) + digest(path and path.with_suffix(SUFFIX))


def _photos(image):
    """Pictures of an IMAGE (n, height, width, 3) in 0..1; a fourth channel, which is alpha, is left out.

    Raises PhotoError for anything else.
    """
    shape = tuple(image.shape)
    if len(shape) != 4 or not all(shape) or shape[-1] not in (3, 4):
        raise PhotoError(f"this IMAGE has the shape {shape}: pictures have (number, height, width, 3 colours)")
    if shape[0] > MAX_PHOTOS:
        raise PhotoError(f"this IMAGE holds {shape[0]} pictures: a person is learnt from {MAX_PHOTOS} at most")
    pixels = image[..., :3].float()
    if not pixels.isfinite().all():
        raise PhotoError("this IMAGE holds values that are not numbers")
    return [Image.fromarray((np.clip(p.cpu().numpy(), 0, 1) * 255).round().astype(np.uint8)) for p in pixels]


def _portrait(pipe, vae, identity, seed):
    """A quick picture of a person, through ComfyUI's own sampler and the models that are being fitted with."""
    import comfy.sample
    import nodes

    with torch.inference_mode():
        encode = nodes.CLIPTextEncode().encode
        [positive] = encode(with_identity(pipe.clip, identity), f"a photo of {identity.placeholder_token}")
        [negative] = encode(pipe.clip, "")
        config = pipe.unet.config
        latent = torch.zeros(1, config.in_channels, config.sample_size, config.sample_size)
        noise = comfy.sample.prepare_noise(latent, seed)
        guidance = pipe.card.guidance_scale or 5.0
        # Not by the node, whose steps would move the bar of the fit.
        drawn = comfy.sample.sample(
            pipe.model, noise, PREVIEW_STEPS, guidance, "euler", "sgm_uniform", positive, negative, latent,
            disable_pbar=True, seed=seed,
        )  # fmt: skip
        return _photos(vae.decode(drawn).nan_to_num())[0]  # a preview may be black, the fit goes on


class LoadMiniature(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CelebBasisLoadMiniature",
            display_name="Load Miniature",
            category=f"{CATEGORY}/for trials",
            description="The small model of drawn people that celeb-basis brings along. It draws 128 x 128 "
            "pixels, and finds drawn faces only.",
            inputs=[],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    @in_one_line
    def execute(cls):
        from .miniature import load_miniature  # which nothing but trials needs

        return io.NodeOutput(*load_miniature())


class DrawStranger(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CelebBasisStranger",
            display_name="Photo of a Stranger",
            category=f"{CATEGORY}/for trials",
            description="A photo of somebody whom the miniature has never seen.",
            inputs=[io.Int.Input("seed", default=7, min=0, max=2**31, control_after_generate=False)],
            outputs=[io.Image.Output()],
        )

    @classmethod
    @in_one_line
    def execute(cls, seed):
        from celeb_basis import miniature

        pixels = torch.from_numpy(np.array(miniature.person(seed), dtype=np.float32) / 255)
        return io.NodeOutput(pixels[None])


NODES = (
    LoadIdentity, SampleIdentity, BlendIdentities, ApplyIdentity, SaveIdentity, FitIdentity,
    LoadMiniature, DrawStranger,
)  # fmt: skip

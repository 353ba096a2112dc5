"""ComfyUI nodes that put people into pictures by identity files, and learn a person from a photo."""

from comfy_api.latest import ComfyExtension

from .nodes import NODES


class CelebBasisExtension(ComfyExtension):
    """What ComfyUI asks for this pack's nodes."""

    async def get_node_list(self):
        return list(NODES)


async def comfy_entrypoint():
    return CelebBasisExtension()

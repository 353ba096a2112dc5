"""Starts the ComfyUI that COMFYUI_PATH names, without a GPU."""

import importlib.util
import os
import runpy
import sys
from pathlib import Path

import torch

if importlib.util.find_spec("torchvision") and not torch.cuda.is_available():
    # PyPI's torchvision is made for CUDA: two of its operators must be known before it is imported without one.
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
root = Path(os.environ["COMFYUI_PATH"])
os.chdir(root)
sys.path[0] = str(root)
sys.argv[0] = str(root / "main.py")
runpy.run_path(sys.argv[0], run_name="__main__")

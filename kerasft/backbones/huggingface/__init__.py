"""Hugging Face checkpoint folders, in and out."""

from kerasft.backbones.huggingface.load import load_folder

__all__ = ["load_folder"]

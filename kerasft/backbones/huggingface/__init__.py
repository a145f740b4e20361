"""Hugging Face checkpoint folders, in and out."""

from kerasft.backbones.huggingface.heads import Head, read_head
from kerasft.backbones.huggingface.load import load_folder
from kerasft.backbones.huggingface.masked import MaskedWeights, read_masked_head
from kerasft.backbones.huggingface.save import write_folder

__all__ = [
    "Head",
    "MaskedWeights",
    "load_folder",
    "read_head",
    "read_masked_head",
    "write_folder",
]

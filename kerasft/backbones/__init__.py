"""Level 2: pretrained backbones, their tokenizers, and the places in them."""

from kerasft.backbones.describe import (
    build_backbone,
    describe_backbone,
    load_tokenizer,
    save_tokenizer,
    set_template,
    template_of,
    tokenizer_digest,
)
from kerasft.backbones.families import FAMILIES, Family, HeadStyle, family_of
from kerasft.backbones.load import load, presets
from kerasft.backbones.offsets import Pieces, pieces, surfaces
from kerasft.backbones.packing import run_packed
from kerasft.backbones.sites import ROLES, Block, Site, Sites, depths, sites
from kerasft.backbones.vocabulary import lm_logits

__all__ = [
    "FAMILIES",
    "ROLES",
    "Block",
    "Family",
    "HeadStyle",
    "Pieces",
    "Site",
    "Sites",
    "build_backbone",
    "depths",
    "describe_backbone",
    "family_of",
    "lm_logits",
    "load",
    "load_tokenizer",
    "pieces",
    "presets",
    "run_packed",
    "save_tokenizer",
    "set_template",
    "sites",
    "surfaces",
    "template_of",
    "tokenizer_digest",
]

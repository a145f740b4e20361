"""Level 3: heads, from the backbone's features to logits."""

from kerasft.heads.classification import POOLINGS, ClassificationHead, Pool
from kerasft.heads.masked import MaskedHead, TiedLogits
from kerasft.heads.tokens import TokenHead

__all__ = ["POOLINGS", "ClassificationHead", "MaskedHead", "Pool", "TiedLogits", "TokenHead"]

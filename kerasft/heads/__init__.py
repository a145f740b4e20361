"""Level 3: heads, from the backbone's features to logits."""

from kerasft.heads.classification import POOLINGS, ClassificationHead, Pool

__all__ = ["POOLINGS", "ClassificationHead", "Pool"]

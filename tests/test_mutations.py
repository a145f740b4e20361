"""The contract suites catch what they are there for: each mutation breaks the code in one place,
and the part of a suite that promises the opposite fails. Without the mutation it passes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from keras import layers, ops

from kerasft.heads import Pool
from kerasft.methods import Freeze, LoRA, _adapter_file, _site_layers, lora
from kerasft.tasks import TextClassification
from kerasft.testing import _rig, check_family, check_method, check_task, tiny
from kerasft.training.fitted import Fitted


def no_mask(patch):
    """Attention reads the padding too."""
    call = layers.MultiHeadAttention.call

    def blind(self, *args, attention_mask=None, **kwargs):
        return call(self, *args, **kwargs)

    patch.setattr(layers.MultiHeadAttention, "call", blind)


def no_b(patch):
    """The merge forgets the adapter's second matrix."""

    def without_b(self, inner):
        left, right = (np.asarray(part, np.float64) for part in self.factors())
        return inner.plus(left, np.ones_like(right) * self.scale)

    patch.setattr(lora.LoRALayer, "change", without_b)


def no_scale(patch):
    """The merge forgets alpha / rank."""

    def without_scale(self, inner):
        return inner.plus(*(np.asarray(part, np.float64) for part in self.factors()))

    patch.setattr(lora.LoRALayer, "change", without_scale)


def not_at_zero(patch):
    """A fresh adapter is not silent."""
    add_weight = lora.LoRALayer.add_weight

    def ones(self, **options):
        return add_weight(self, **(options | {"initializer": "ones"}))

    patch.setattr(lora.LoRALayer, "add_weight", ones)


def no_b_in_file(patch):
    """The adapter file holds zeros for the second matrix."""
    state = _adapter_file.adapter_weights

    def without_b(backbone):
        return {k: v * (not k.endswith("lora_b")) for k, v in state(backbone).items()}

    patch.setattr(_adapter_file, "adapter_weights", without_b)


def nothing_frozen(patch):
    """LoRA leaves the backbone trainable."""
    patch.setattr(_site_layers, "set_trainable", lambda backbone, chosen: None)


def frozen_not_at_all(patch):
    """Freezing leaves the backbone trainable."""
    patch.setattr("kerasft.methods.freeze.set_trainable", lambda backbone, chosen: None)


def mean_of_each_replica(patch):
    """Each replica divides by its own rows, and the gradients are added up."""
    patch.setattr(Fitted, "_mean", lambda self, total, count: total / count)


def last_is_padding(patch):
    """`last` reads the last place instead of the last real token."""
    call = Pool.call

    def blind(self, sequence, padding_mask=None):
        return sequence[:, -1] if self.pooling == "last" else call(self, sequence, padding_mask)

    patch.setattr(Pool, "call", blind)


def one_loss_a_batch(patch):
    """The loss has no value a row."""
    loss = TextClassification.loss

    def summed(self):
        made = loss(self)
        rows = made.call
        made.call = lambda y, y_pred: ops.sum(rows(y, y_pred))
        return made

    patch.setattr(TextClassification, "loss", summed)


def updates(backbone):
    """The weights that LoRA trains."""
    return {v.path for v in backbone.variables if v.path.endswith(("lora_a", "lora_b"))}


def nothing(backbone):
    """The weights of the backbone that move where the head alone learns."""
    return set()


def method_check(method, part, family="bert", **options):
    return lambda: check_method(method, family, parts=["identity", part], **options)


def padded_last():
    """A decoder's answer about a text does not change with the padding behind it."""
    pipe = _rig.pipeline(tiny.family("gpt2"), "full")
    narrow = tiny.features(pipe.model)
    wide = {n: np.pad(v, [(0, 0), (0, 3)]) for n, v in narrow.items()}
    one, other = (np.asarray(pipe.model(x, training=False)) for x in (narrow, wide))
    np.testing.assert_allclose(one, other, atol=1e-5)


@dataclass(frozen=True)
class Mutation:
    """A broken place in the code, the check that has to see it, and what it says."""

    change: Any
    check: Any
    says: str


MUTATIONS = [
    Mutation(no_mask, lambda: check_family("distil_bert", parts=["padding"]), "more padding"),
    Mutation(no_b, method_check(LoRA(), "merge"), "after the merge"),
    Mutation(no_scale, method_check(LoRA(rank=4), "merge"), "after the merge"),
    Mutation(not_at_zero, method_check(LoRA(), "identity"), "fresh method's"),
    Mutation(no_b_in_file, method_check(LoRA(), "adapter"), "adapter"),
    Mutation(nothing_frozen, method_check(LoRA(), "trainable", trainable=updates), "trained"),
    Mutation(frozen_not_at_all, method_check(Freeze(), "trainable", trainable=nothing), "trained"),
    Mutation(mean_of_each_replica, method_check(Freeze(), "replicas"), "two replicas"),
    Mutation(last_is_padding, padded_last, "Not equal to tolerance"),
    Mutation(one_loss_a_batch, lambda: check_task(_rig.TASK, parts=["loss"]), "shape of the loss"),
]


@pytest.mark.contract("mutations", of=len(MUTATIONS))
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.change.__name__)
def test_a_mutation_is_caught(mutation, monkeypatch):
    mutation.check()
    mutation.change(monkeypatch)
    with pytest.raises(AssertionError, match=mutation.says):
        mutation.check()

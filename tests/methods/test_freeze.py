"""Freezing: which weights stay, by number, by name, and messages that count the blocks."""

import pytest

from kerasft._core.errors import InputError
from kerasft.methods import Freeze, adapt
from kerasft.testing import tiny


def frozen(method, family="bert", **options):
    """Layers of the backbone of which every weight is frozen."""
    backbone = adapt(tiny.backbone(family, **options), method).backbone
    weights = {}
    for weight in backbone.weights:
        weights.setdefault(weight.path.split("/")[0], []).append(weight.trainable)
    assert all(len(set(found)) == 1 for found in weights.values()), "a layer is frozen whole"
    return sorted(name for name, found in weights.items() if not found[0])


BELOW = ["embeddings_layer_norm", "position_embedding", "segment_embedding", "token_embedding"]


def below(*blocks):
    return sorted([*BELOW, *(f"transformer_layer_{i}" for i in blocks)])


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (Freeze(), [*BELOW, "pooled_dense", *(f"transformer_layer_{i}" for i in range(4))]),
        (Freeze(train_top_blocks=4), below()),
        (Freeze(train_top_blocks=1), below(0, 1, 2)),
        (Freeze(train_top_blocks=0), below(0, 1, 2, 3)),
        (Freeze(freeze_first_blocks=0), below()),
        (Freeze(freeze_first_blocks=3), below(0, 1, 2)),
        (Freeze(freeze_first_blocks=4), below(0, 1, 2, 3)),
        (Freeze(blocks=(0, "transformer_layer_2")), ["transformer_layer_0", "transformer_layer_2"]),
    ],
)
def test_which_layers_are_frozen(method, expected):
    assert frozen(method, num_layers=4) == sorted(expected)


def test_a_decoder_keeps_its_final_norm_with_the_top():
    assert frozen(Freeze(train_top_blocks=1), "llama3") == [
        "token_embedding",
        "transformer_layer_0",
    ]


def test_random_states_are_never_counted():
    backbone = adapt(tiny.backbone("bert", dropout=0.1), Freeze()).backbone
    states = [v for v in backbone.variables if v.path.endswith("seed_generator_state")]
    assert states
    assert not any(w.trainable for w in backbone.weights)


def test_sixteen_blocks_of_bert_base_explain_themselves():
    """The well-known recipe "freeze the first 16" asks for more blocks than BERT-base has."""
    with pytest.raises(InputError) as caught:
        adapt(tiny.backbone("bert", num_layers=12), Freeze(freeze_first_blocks=16))
    assert str(caught.value) == (
        "This BertBackbone has 12 blocks, so `freeze_first_blocks` can be at most 12. Received: "
        "freeze_first_blocks=16. (BERT-base has 12 blocks, BERT-large 24.)"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_top_blocks": 3}, "`train_top_blocks` can be at most 2"),
        ({"blocks": (2,)}, "transformer_layer_0 to transformer_layer_1 .or 0 to 1.*blocks=2"),
        ({"blocks": ("transformer_layer_9",)}, "Did you mean 'transformer_layer_1'"),
    ],
)
def test_blocks_that_are_not_there(options, message):
    backbone = tiny.backbone("bert")
    with pytest.raises(InputError, match=message):
        adapt(backbone, Freeze(**options))
    assert all(w.trainable for w in backbone.weights), "nothing was frozen"


@pytest.mark.parametrize(
    "options",
    [
        {"train_top_blocks": 1, "freeze_first_blocks": 1},
        {"train_top_blocks": 0, "blocks": (0,)},
        {"train_top_blocks": -1},
        {"freeze_first_blocks": 1.5},
    ],
)
def test_wrong_options(options):
    with pytest.raises(InputError):
        Freeze(**options)


def test_albert_can_be_frozen_whole_only():
    assert len(frozen(Freeze(), "albert")) > 3
    for options in ({"train_top_blocks": 1}, {"freeze_first_blocks": 1}, {"blocks": (0,)}):
        with pytest.raises(InputError, match="AlbertBackbone runs one block many times"):
            adapt(tiny.backbone("albert"), Freeze(**options))

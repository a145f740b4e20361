"""Every family of the table holds its contract."""

import keras_hub
import numpy as np
import pytest

from kerasft._core.errors import InputError
from kerasft.backbones import FAMILIES, Sites, build_backbone, describe_backbone, family_of, sites
from kerasft.backbones._surgery import ACTIVATIONS, LAYOUTS, read_fixes
from kerasft.backbones.families import family_of_model_type
from kerasft.testing import check_family, tiny
from kerasft.testing.contracts import FAMILY_PARTS

NAMES = tuple(family.name for family in FAMILIES)
# What KerasHub's own classes have: a change means that one of them has moved.
FIXES = {
    "bert": ("gelu_tanh", 1e-12),
    "roberta": ("gelu", 1e-5),
    "xlm_roberta": ("gelu", 1e-5),
    "distil_bert": ("gelu", 1e-12),
    "albert": ("gelu_tanh", 1e-12),
    "deberta_v3": ("gelu", 1e-7),
    "electra": ("gelu_tanh", 1e-12),
    "f_net": ("gelu_tanh", 1e-12),
    "gpt2": ("gelu_tanh", 1e-5),
    "opt": ("relu", 1e-5),
    "llama": (None, 1e-6),
    "llama3": (None, 1e-6),
    "mistral": (None, 1e-6),
    "qwen": (None, 1e-6),
    "qwen3": (None, 1e-6),
    "gemma": (None, 1e-6),
    "bart": ("gelu", 1e-5),
    "t5": ("relu", 1e-6),
}


@pytest.mark.contract("families", of=len(FAMILIES))
@pytest.mark.parametrize("name", NAMES)
def test_contract(name):
    results = check_family(name)
    assert results == dict.fromkeys(FAMILY_PARTS, "passed")


@pytest.mark.parametrize("name", NAMES)
def test_tiny_is_the_same_for_one_seed(name):
    first, second = (tiny.backbone(name, seed=3) for _ in range(2))
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    found = read_fixes(first)
    assert (found.get("activation"), found["layer_norm_epsilon"]) == FIXES[name]


def test_another_seed_gives_other_weights():
    first, second = (tiny.backbone("bert", seed).get_weights() for seed in (3, 4))
    assert all((one != other).any() for one, other in zip(first, second, strict=True))


def test_the_table_names_classes_that_are_there():
    assert len(set(NAMES)) == len({f.backbone for f in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert hasattr(keras_hub.models, family.backbone)
        assert hasattr(keras_hub.tokenizers, family.tokenizer)
        for model_type in family.model_types:
            assert model_type in family_of_model_type(model_type).model_types
    assert {family.kind for family in FAMILIES} == {"encoder", "decoder", "encoder-decoder"}
    assert set(FIXES) == set(NAMES)


def test_what_a_family_can_do():
    rows = {family.name: family for family in FAMILIES}
    assert [name for name in NAMES if not rows[name].maskable] == ["f_net"]
    assert [name for name in NAMES if rows[name].shares_blocks] == ["albert"]
    assert [name for name in NAMES if not rows[name].packable] == ["f_net", "bart", "t5"]
    assert [name for name in NAMES if rows[name].unpackable] == ["f_net", "bart", "t5"]
    assert [name for name in NAMES if rows[name].starts] == ["bart", "t5"]
    assert [name for name in NAMES if rows[name].head is None] == ["bart", "t5"]


def test_a_foreign_backbone_and_model_type_are_refused():
    with pytest.raises(InputError, match="Received: WhisperBackbone"):
        family_of("WhisperBackbone")
    with pytest.raises(InputError, match="FNet, OPT and T5 are loaded from KerasHub presets"):
        family_of_model_type("fnet")


def test_every_activation_can_be_written_back():
    assert set(ACTIVATIONS.values()) == {"gelu", "gelu_tanh", "relu", "silu"}
    assert {"TransformerEncoder", "GemmaDecoderBlock"} <= set(LAYOUTS)


def test_targets_come_block_by_block():
    found = sites(tiny.backbone("bert"))
    assert isinstance(found, Sites)
    paths = [site.path for site in found.targets(("value", "query"))]
    assert paths == ["blocks.0.value", "blocks.0.query", "blocks.1.value", "blocks.1.query"]
    with pytest.raises(InputError, match="must be one of: query, key, value, output, up, down"):
        list(found.targets(("gate",)))
    found.need_separate_blocks("Freezing by block")


def test_albert_has_no_separate_blocks():
    with pytest.raises(InputError, match="Freezing by block needs blocks .* AlbertBackbone runs"):
        sites(tiny.backbone("albert")).need_separate_blocks("Freezing by block")


def test_a_layer_that_is_exchanged_and_put_back_leaves_no_trace():
    backbone = tiny.backbone("bert")
    before = [w.path for w in backbone.weights]
    site = sites(backbone).blocks[1].projections["up"]
    old = site.put(other := type(site.layer)(24, name="other"))
    assert site.layer is other
    assert [w.path for w in backbone.weights] != before
    assert site.put(old) is other
    assert [w.path for w in backbone.weights] == before


def test_a_description_overrides_and_refuses():
    description = describe_backbone(tiny.backbone("bert"))
    built = build_backbone(description, dropout=0.25, dtype="mixed_bfloat16")
    assert (built.dropout, built.dtype_policy.name) == (0.25, "mixed_bfloat16")
    with pytest.raises(InputError, match="BertBackbone has no argument 'layers'"):
        build_backbone(description, layers=3)


# --- traps of the stack: a failure here means that upstream has changed ---------------------------


def test_trap_keras_hub_forgets_the_activation():
    backbone = tiny.backbone("bert")
    assert "activation" not in backbone.get_config()
    assert read_fixes(backbone)["activation"] == "gelu_tanh"


def test_trap_llama3_config_forgets_tied_embeddings():
    backbone = tiny.backbone("llama3", tie_word_embeddings=True)
    assert "tie_word_embeddings" not in backbone.get_config()
    again = type(backbone)(**{**backbone.get_config(), "name": "again"})
    assert len(again.weights) == len(backbone.weights) + 1
    assert len(build_backbone(describe_backbone(backbone)).weights) == len(backbone.weights)

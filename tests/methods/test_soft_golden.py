"""Soft prompts and prefixes give the hidden states of PEFT and Transformers, on copied weights."""

from pathlib import Path

import numpy as np
import pytest

from kerasft.backbones.huggingface import load_folder
from kerasft.methods import PrefixTuning, PromptTuning, PTuning, adapt, set_adapter_weights

GOLDEN = Path(__file__).parents[1] / "golden"
TOKENS, HIDDEN = 4, 6


@pytest.fixture(scope="module")
def numbers():
    with np.load(GOLDEN / "methods" / "soft.npz") as found:
        return dict(found)


def difference(name, method, state, expected, numbers):
    """The largest difference on real tokens, with the weights that are given."""
    adapted = adapt(load_folder(str(GOLDEN / name), dtype="float32")[0], method)
    set_adapter_weights(adapted.backbone, state, "soft.npz")
    ids, mask = numbers[f"{name}/input_ids"], numbers[f"{name}/attention_mask"]
    x = {"token_ids": ids, "padding_mask": mask}
    if name == "bert":
        x["segment_ids"] = np.zeros_like(ids)
    found = adapted(x, training=False)
    found = np.asarray(found["sequence_output"] if isinstance(found, dict) else found)
    return np.abs(found - expected)[mask == 1].max()


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_prompt_tuning(name, numbers):
    vectors, expected = (numbers[f"{name}/prompt/{k}"] for k in ("embedding.weight", "hidden"))
    method = PromptTuning(TOKENS)
    state = {"embedding.vectors": vectors}
    assert difference(name, method, state, expected, numbers) < 1e-5
    state["embedding.vectors"] = vectors[::-1]
    assert difference(name, method, state, expected, numbers) > 1e-3, "in their order"


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_p_tuning(name, numbers):
    given = {k: numbers[f"{name}/encoder/{k}"] for k in ("embedding.weight", "hidden")}
    state = {"embedding.vectors": given["embedding.weight"]}
    for ours, theirs in enumerate((0, 2, 4)):
        layer, head = f"embedding.encoder_{ours}", f"{name}/encoder/mlp_head.{theirs}"
        state[f"{layer}.kernel"] = numbers[f"{head}.weight"].T
        state[f"{layer}.bias"] = numbers[f"{head}.bias"]
    method = PTuning(TOKENS, hidden=HIDDEN)
    assert difference(name, method, state, given["hidden"], numbers) < 1e-5
    state["embedding.encoder_1.bias"] = state["embedding.encoder_1.bias"] + 1.0
    assert difference(name, method, state, given["hidden"], numbers) > 1e-3


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_prefix_tuning(name, numbers):
    state = {}
    for block, pair in enumerate(numbers[f"{name}/prefix"].transpose(0, 1, 3, 2, 4)):
        for kind, values in zip(("keys", "values"), pair, strict=True):
            state[f"blocks.{block}.attention.{kind}"] = values
    expected, method = numbers[f"{name}/prefix/hidden"], PrefixTuning(TOKENS)
    assert difference(name, method, state, expected, numbers) < 1e-5
    state["blocks.0.attention.keys"] = state["blocks.0.attention.values"]
    assert difference(name, method, state, expected, numbers) > 1e-3

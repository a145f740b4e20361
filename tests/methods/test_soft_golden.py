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


def lstm_state(given):
    """PEFT's LSTM encoder under our names: one bias for its two, matrices the other way round.

    The gates of both stand in one order: input, forget, candidate, output.
    """
    state = {"embedding.vectors": given["embedding.weight"]}
    for layer in (0, 1):
        for direction, end in (("forward", ""), ("backward", "_reverse")):
            ours = f"embedding.lstm_{layer}.{direction}_lstm.lstm_cell"
            inputs, hidden, one, other = (
                given[f"lstm_head.{kind}_l{layer}{end}"]
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            state[f"{ours}.kernel"], state[f"{ours}.recurrent_kernel"] = inputs.T, hidden.T
            state[f"{ours}.bias"] = one + other
    for ours, theirs in enumerate((0, 2)):
        state[f"embedding.encoder_{ours}.kernel"] = given[f"mlp_head.{theirs}.weight"].T
        state[f"embedding.encoder_{ours}.bias"] = given[f"mlp_head.{theirs}.bias"]
    return state


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_p_tuning_with_the_lstm(name, numbers):
    part = f"{name}/lstm/"
    given = {k.removeprefix(part): v for k, v in numbers.items() if k.startswith(part)}
    method, state = PTuning(TOKENS, hidden=HIDDEN // 2, encoder="lstm"), lstm_state(given)
    assert difference(name, method, state, given["hidden"], numbers) < 1e-5
    cells = [
        f"embedding.lstm_1.{d}_lstm.lstm_cell.recurrent_kernel" for d in ("forward", "backward")
    ]
    swapped = state | {cells[0]: state[cells[1]], cells[1]: state[cells[0]]}
    assert difference(name, method, swapped, given["hidden"], numbers) > 1e-3, "each its direction"
    gates = np.split(state[cells[0]], 4, axis=1)
    other = state | {cells[0]: np.concatenate([*gates[:2], gates[3], gates[2]], 1)}
    assert difference(name, method, other, given["hidden"], numbers) > 1e-3, "gates in their order"


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

"""Merged backbones as presets of KerasHub, loaded in a process that has no kerasft."""

import json
import subprocess
import sys

import numpy as np
import pytest

import kerasft
from kerasft import InputError
from kerasft.methods import adapter_weights, set_adapter_weights
from kerasft.testing import _rig, tiny

READ = """
import json, sys
import numpy as np
import keras, keras_hub
assert "kerasft" not in sys.modules
for folder in sys.argv[1:]:
    x = dict(np.load(folder + ".npz"))
    out = keras_hub.models.Backbone.from_preset(folder)(x)
    out = out["sequence_output"] if isinstance(out, dict) else out
    np.save(folder + ".out.npy", np.asarray(out))
    ids = keras_hub.models.Tokenizer.from_preset(folder)(["the film was good"])
    print(json.dumps(np.asarray(ids.to_list() if hasattr(ids, "to_list") else ids[0]).tolist()))
"""
METHODS = {"bert": {"name": "lora", "dora": True}, "llama": "ia3", "gpt2": "full"}


def sequence(backbone, x):
    out = backbone(x)
    return np.asarray(out["sequence_output"] if isinstance(out, dict) else out)


def test_keras_hub_alone_loads_what_was_merged(tmp_path):
    wanted, places = {}, []
    for family, method in METHODS.items():
        pipe = _rig.pipeline(family, method)
        if method != "full":
            own = {n: v + 0.05 for n, v in adapter_weights(pipe.backbone).items()}
            set_adapter_weights(pipe.backbone, own, "numbers")
        place = kerasft.save_preset(pipe, tmp_path / family)
        x = tiny.features(pipe.backbone)
        np.savez(f"{place}.npz", **x)
        wanted[family] = sequence(pipe.backbone, x)
        places.append(place)
    done = subprocess.run(
        [sys.executable, "-c", READ, *places], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert all(json.loads(line) for line in done.stdout.splitlines())
    for family, place in zip(METHODS, places, strict=True):
        got = np.load(f"{place}.out.npy")
        assert np.abs(got - wanted[family]).max() < 1e-5 * np.abs(wanted[family]).max()
    # The adapter is in it: without it the outputs are others.
    plain = sequence(tiny.backbone("bert"), dict(np.load(f"{places[0]}.npz")))
    assert np.abs(plain - wanted["bert"]).max() > 1e-3


def test_what_a_preset_cannot_hold_is_refused(tmp_path):
    pipe = _rig.pipeline("bert", "full")
    for block in pipe.backbone.transformer_layers:
        block._feedforward_intermediate_dense.activation = np.tanh
    with pytest.raises(InputError, match="answer otherwise"):
        kerasft.save_preset(pipe, tmp_path / "preset")
    assert not (tmp_path / "preset").exists()


def test_a_method_without_a_merge_is_refused(tmp_path):
    with pytest.raises(InputError, match="no merge"):
        kerasft.save_preset(_rig.pipeline("bert", "prompt-tuning"), tmp_path / "preset")

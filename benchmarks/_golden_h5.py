"""Write BERT's weights as TFBertForSequenceClassification.save_pretrained wrote tf_model.h5.

Transformers 5 has no TensorFlow models, so the layout of Keras 2's `save_weights` is written by
hand: a group a top-level layer, `weight_names` in it, and the full variable name as the path.
"""

import shutil
from pathlib import Path

import h5py
import numpy as np
import torch

ROOT = "tf_bert_for_sequence_classification"
DENSE = {"weight": "kernel:0", "bias": "bias:0"}
NORM = {"weight": "gamma:0", "bias": "beta:0"}
# Keras 2 named each Dropout by a counter; that of bert-base is the 38th.
LAYERS = ["bert", "dropout_37", "classifier"]


def tf_name(name: str) -> str:
    """The TensorFlow name of a PyTorch weight of BertForSequenceClassification."""
    *path, last = name.split(".")
    if path[-1] == "word_embeddings":
        leaf = "weight:0"
    elif path[-1].endswith("_embeddings"):
        leaf = "embeddings:0"
    else:
        leaf = (NORM if path[-1] == "LayerNorm" else DENSE)[last]
    text = "/".join([ROOT, *path, leaf])
    return text.replace("encoder/layer/", "encoder/layer_._")


def tf_value(name: str, value: torch.Tensor) -> np.ndarray:
    """Kernels are stored the other way round; embeddings are not."""
    array = value.detach().numpy()
    return array.T.copy() if tf_name(name).endswith("kernel:0") else array


def write_h5(model: torch.nn.Module, source: Path, folder: Path) -> None:
    """The folder of the same model with tf_model.h5 in place of model.safetensors."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("config.json", "vocab.txt", "tokenizer_config.json", "texts.json"):
        shutil.copyfile(source / name, folder / name)
    config = (folder / "config.json").read_text().replace('"Bert', '"TFBert')
    (folder / "config.json").write_text(config)
    with h5py.File(folder / "tf_model.h5", "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in LAYERS]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.15.0"
        for layer in LAYERS:
            _write_layer(file.create_group(layer), layer, model)
        file.create_group("top_level_model_weights").attrs["weight_names"] = np.array([], "S1")


def _write_layer(group: h5py.Group, layer: str, model: torch.nn.Module) -> None:
    weights = {n: w for n, w in model.named_parameters() if n.split(".")[0] == layer}
    group.attrs["weight_names"] = np.array([tf_name(n).encode() for n in weights] or [], "S")
    for name, value in weights.items():
        group.create_dataset(tf_name(name), data=tf_value(name, value))

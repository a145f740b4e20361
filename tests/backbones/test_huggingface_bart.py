"""A Hugging Face folder of BART: ids, logits and written tokens are those of Transformers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kerasft import InputError
from kerasft.backbones import load
from kerasft.backbones.huggingface import read_head
from kerasft.data import encoder
from kerasft.generation import generate, step_model
from kerasft.methods import adapt
from kerasft.tasks import TextToText

FOLDER = Path(__file__).parents[1] / "golden" / "bart"
TASK = TextToText(max_length=48)


@pytest.fixture(scope="module")
def loaded():
    return load(FOLDER)


@pytest.fixture(scope="module")
def expected():
    with np.load(FOLDER / "seq2seq.npz") as arrays:
        return dict(arrays)


def changed(tmp_path, **config):
    """A copy of the folder with another config.json."""
    folder = tmp_path / "bart"
    shutil.copytree(FOLDER, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def test_ids_are_those_of_transformers(loaded, expected):
    rows = json.loads((FOLDER / "rows.json").read_text(encoding="utf-8"))
    features = encoder(TASK, loaded[1], TASK.reads)(rows)
    for name in ("token_ids", "padding_mask", "decoder_token_ids", "decoder_padding_mask"):
        np.testing.assert_array_equal(features[name], expected[name], err_msg=name)
    # What the decoder always begins with is given, and not learned.
    learned = np.where(expected["decoder_padding_mask"] == 1, expected["learned"], -1)
    assert (learned[:, 0] == 0).all()
    learned[:, 0] = -1
    np.testing.assert_array_equal(features["targets"], learned)


def test_logits_are_those_of_transformers(loaded, expected):
    model = TASK.build(adapt(loaded[0]))
    given = {i.name: expected[i.name] for i in model.inputs}
    logits, real = model(given).numpy(), expected["decoder_padding_mask"] == 1
    wanted = expected["logits"]
    assert np.abs(logits - wanted)[real].max() <= 1e-5 * np.abs(wanted).max()


def test_tokens_are_those_of_transformers(loaded, expected):
    wanted = expected["written"]
    starts = np.tile(np.array([[2, 0]], np.int32), (3, 1))
    source = expected["token_ids"], expected["padding_mask"]
    found = generate(
        step_model(loaded[0]), starts, starts * 0 + 1, max_new_tokens=wanted.shape[1], source=source
    )
    assert found["token_ids"].numpy().tolist() == wanted.tolist()
    assert len({tuple(row) for row in wanted.tolist()}) == 3


def test_the_folder_holds_no_head():
    assert read_head(str(FOLDER)) is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"decoder_layers": 1}, "of one size. Received: encoder_layers=2, decoder_layers=1"),
        ({"scale_embedding": True}, "can do scale_embedding=False only"),
    ],
)
def test_what_keras_hub_cannot_represent(tmp_path, config, message):
    with pytest.raises(InputError, match=message):
        load(changed(tmp_path, **config))


def test_an_activation_is_honoured(tmp_path, loaded):
    other, _ = load(changed(tmp_path, activation_function="relu"))
    inputs = {i.name: np.ones((1, 3), np.int32) for i in other.inputs}
    one, two = (b(inputs)["decoder_sequence_output"].numpy() for b in (other, loaded[0]))
    assert np.abs(one - two).max() > 1e-3


def test_a_bias_of_logits_is_refused(tmp_path):
    folder = changed(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["final_logits_bias"] += 1
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(InputError, match="has no bias of its logits"):
        load(folder)

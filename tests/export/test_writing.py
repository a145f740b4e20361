"""`generate` in golden records: greedily and by a seed, the texts that Python writes."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from kerasft._core.errors import KerasftError
from kerasft.export import compare, saved_model
from kerasft.export.deploy.warmup import read_warmup
from kerasft.export.golden import read_golden, write_golden
from kerasft.export.in_c_runtime import check_in_c_runtime
from kerasft.export.writing import written
from kerasft.generation import sampling


@pytest.fixture(scope="module")
def texts(kind):
    """What `completions` are asked and what they answer, in Python."""
    return list(written(kind("completions")))


def streamed(pipe, inputs):
    """The text by `Pipeline.stream`, which goes from token to token by a loop of its own."""
    options = {n: v.item() for n, v in inputs.items() if n != "prompt"}
    return "".join(pipe.stream(inputs["prompt"].item().decode(), **options)).encode()


def test_the_texts_are_those_of_a_stream(kind, texts):
    pipe = kind("completions")
    greedy, drawn = (outputs["completion"].item() for _, outputs in texts)
    assert [streamed(pipe, inputs) for inputs, _ in texts] == [greedy, drawn]
    assert greedy != drawn  # or the seed would be asked nothing


@pytest.mark.slow
def test_the_texts_of_chats_are_those_of_a_stream(kind):
    for inputs, outputs in written(kind("chats")):
        assert streamed(kind("chats"), inputs) == outputs["completion"].item()


def test_nothing_is_written_where_a_task_writes_nothing(kind):
    assert list(written(kind("one text"))) == []
    assert compare.texts_off(kind("one text"), {}) == 0


@pytest.mark.parametrize("number", [0, 1], ids=["greedy", "drawn"])
@pytest.mark.parametrize("output", ["completion", "tokens"])
def test_another_text_is_found(kind, texts, monkeypatch, number, output):
    monkeypatch.setattr(compare, "written", lambda *_: iter(texts))
    wrong = [outputs[output] for _, outputs in texts][1 - number]

    def served(change):
        answers = {inputs["seed"].item(): dict(outputs) for inputs, outputs in texts}
        if change:
            answers[[*answers][number]][output] = wrong
        return {"generate": lambda seed, **_: answers[int(seed[0])]}

    assert compare.texts_off(kind("completions"), served(False)) == 0
    assert compare.texts_off(kind("completions"), served(True)) == np.inf


@pytest.mark.slow
def test_the_golden_records_and_what_is_refused(texts, exported, tmp_path):
    folder = exported("completions")
    found = [record for record in read_golden(folder) if record["signature"] == "generate"]
    assert [record["inputs"]["seed"] for record in found] == [[0], [7]]
    for record, (inputs, outputs) in zip(found, texts, strict=True):
        for side, meant in (("inputs", inputs), ("outputs", outputs)):
            got = {n: np.array(v, meant[n].dtype) for n, v in record[side].items()}
            assert {n: v.tolist() for n, v in got.items()} == {
                n: v.tolist() for n, v in meant.items()
            }
    assert [name for name, *_ in read_warmup(folder)].count("generate") == 2

    # The C runtime writes the very texts, and is held to them.
    made = shutil.copytree(folder, tmp_path / "1")
    for change in ({"completion": [b"another"]}, {"tokens": [[1] * 8]}):
        wrong = found[1] | {"outputs": found[1]["outputs"] | change}
        write_golden(str(made), [found[0], wrong])
        with pytest.raises(KerasftError, match=f"Record 1 .* generate, output {[*change][0]}"):
            check_in_c_runtime(str(made))
    other = found[1] | {"inputs": found[1]["inputs"] | {"seed": [8]}}
    write_golden(str(made), [found[0], other])
    with pytest.raises(KerasftError, match="signature generate"):
        check_in_c_runtime(str(made))


@pytest.mark.slow
def test_a_graph_that_draws_otherwise_is_no_export(kind, tmp_path, monkeypatch):
    """The seed is lost in the graph alone: greedy answers are right, and yet it is refused."""
    write = saved_model.write_saved_model

    def without_seed(*args):
        with monkeypatch.context() as patch:
            patch.setattr(sampling, "_uniform", lambda seed, step: tf.fill(tf.shape(seed), 0.5))
            write(*args)

    monkeypatch.setattr(saved_model, "write_saved_model", without_seed)
    with pytest.raises(KerasftError, match="does not answer as the trained one"):
        kind("completions").export(tmp_path / "m")
    assert not os.path.exists(tmp_path / "m" / "1")


@pytest.mark.slow
def test_texts_of_each_adapter(tmp_path):
    """Several adapters take turns, and each record says whose it is."""
    from test_adapter_set import attached, trained

    from kerasft.tasks import CausalLM

    task = CausalLM(max_length=32, max_new_tokens=6)
    pipes = {name: trained("llama", "lora", task, seed) for seed, name in enumerate(("one", "two"))}
    many, _ = attached(tmp_path, pipes, trained("llama", task=task))
    found = [r for r in read_golden(many.export(tmp_path / "m")) if r["signature"] == "generate"]
    assert [r["inputs"]["adapter"] for r in found] == [[b"one"], [b"two"]]
    for number, (record, pipe) in enumerate(zip(found, pipes.values(), strict=True)):
        alone = [outputs["completion"].tolist() for _, outputs in written(pipe)]
        assert record["outputs"]["completion"] == alone[number]

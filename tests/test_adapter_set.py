"""Several adapters on one base: each row is answered as its adapter alone answers it."""

import json

import numpy as np
import pytest
import tensorflow as tf

from kerasft import AdapterSet, InputError, Pipeline
from kerasft._core import weights
from kerasft.data import input_specs, tensors_of
from kerasft.export.examples import examples
from kerasft.methods import (
    _routes,
    adapt,
    adapter_weights,
    changes_of,
    registry,
    set_adapter_weights,
)
from kerasft.pipeline._answers import rows_of, told
from kerasft.tasks import (
    CausalLM,
    QuestionAnswering,
    TextClassification,
    TokenClassification,
    ZeroShotClassification,
)
from kerasft.testing import tiny

AB = TextClassification(labels=("a", "b"), max_length=32)
TEXTS = [*tiny.ODD_TEXTS, "good film", "free prize now"]
# Options of methods that are served row by row, where the default ones do not fit tiny backbones.
OPTIONS = {
    "adalora": {"initial_rank": 4, "rank": 2},
    "chain": {"methods": ["lora", "layer-norm"]},
    "lora": {"rank": 4, "scaling": "rslora", "targets": ["query", "output", "up", "down"]},
    "vera": {"rank": 8},
}
# Why the others are not. A new method is served, or stands here.
NOT_A_ROW = "no such function|no change of a projection"
REFUSED = {
    "adapters": NOT_A_ROW,
    "compacter": NOT_A_ROW,
    "freeze": "none of the backbone's weights move",
    "full": "every weight moves",
    "gradual-unfreezing": "every weight moves",
    "head-only": "none of the backbone's weights move",
    "p-tuning": NOT_A_ROW,
    "prefix-tuning": NOT_A_ROW,
    "prompt-tuning": NOT_A_ROW,
    "qlora": NOT_A_ROW,
}
SERVED = sorted({*registry.names()} - {*REFUSED})
EXTRA = {
    "dora": {"name": "lora", "dora": True},
    "pissa": {"name": "lora", "start": "pissa"},
    "ia3 of queries": {"name": "ia3", "targets": ["query", "output", "up"]},
    "lora with biases": {"name": "chain", "methods": [{"lora": {"dora": True}}, "bitfit"]},
}


def trained(family, method="full", task=AB, seed=0, base=0, dtype="float32"):
    """A pipeline whose method has moved what it moves."""
    model = task.build(adapt(tiny.backbone(family, seed=base, dtype=dtype), method))
    pipe = Pipeline(model, tiny.tokenizer(family), task)
    random = np.random.default_rng(seed)
    own = adapter_weights(pipe.backbone)
    if len(own) < len(pipe.backbone.weights):
        moved = {k: v + random.normal(0, 0.3, v.shape).astype(v.dtype) for k, v in own.items()}
        set_adapter_weights(pipe.backbone, moved, "random numbers")
    for variable in pipe.head_variables:
        variable.assign(random.normal(0, 0.5, variable.shape))
    return pipe


def attached(folder, pipes, base):
    """All of them on one base, and them by name."""
    many = AdapterSet(base)
    for name, pipe in pipes.items():
        path = str(folder / f"{name}.safetensors".replace(" ", "-"))
        pipe.save_adapter(path)
        many.attach(name, path)
    return many, {"": base} | pipes


def apart(answer, meant):
    """How far an answer is from what is meant, as a share of its largest number."""
    worst = 0.0
    for name, value in meant.items():
        have, want = np.asarray(answer[name]), np.asarray(value)
        inner = have[tuple(slice(n) for n in want.shape)]
        if want.dtype.kind == "U":
            assert (inner == want).all(), (name, answer, meant)
        else:
            worst = max(worst, np.abs(inner - want).max(initial=0) / np.abs(want).max(initial=1))
            assert np.abs(have).sum() == pytest.approx(np.abs(inner).sum())  # filled up with 0
    return worst


def mixed(many, pipes, texts=TEXTS, names=None):
    """The largest difference between rows of one batch and each adapter alone."""
    names = names or [[*pipes][i % len(pipes)] for i in range(len(texts))]
    got = many.predict(texts, adapter=names)
    alone = {name: answered(pipe, texts) for name, pipe in pipes.items() if name in names}
    return max(
        apart(answer, alone[name][row])
        for row, (name, answer) in enumerate(zip(names, got, strict=True))
    )


def answered(pipe, texts):
    """What `predict` gives, without compiling every model."""
    fields = tensors_of(
        {n: [row[n] for row in rows_of(pipe.task, texts, {})] for n in pipe.task.inputs},
        input_specs(pipe.task),
    )
    return told(pipe.task, pipe.answers(fields))


def options(method):
    return {"name": method} | OPTIONS.get(method, {})


@pytest.mark.parametrize(
    "family",
    [
        "bert",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                "llama",
                "roberta",
                "distil_bert",
                "gpt2",
                "gemma",
                "qwen3",
                "deberta_v3",
                "albert",
            )
        ),
    ],
)
def test_a_mixed_batch_is_each_adapter_alone(tmp_path, family):
    """Of every method that is a function of the row, beside each other."""
    methods = {m: options(m) for m in SERVED} | EXTRA
    if family == "deberta_v3":
        moving = ("bitfit", "layer-norm", "chain", "lora with biases")
        methods = {n: m for n, m in methods.items() if n not in moving}
    if family in ("llama", "gemma", "qwen3"):
        methods = {n: m for n, m in methods.items() if n not in ("bitfit", "lora with biases")}
    base = trained(family, "full")
    pipes = {
        name: trained(family, method, seed=seed)
        for seed, (name, method) in enumerate(methods.items(), 1)
    }
    many, pipes = attached(tmp_path, pipes, base)
    assert many.names == [*methods]  # none of them is left out
    texts = TEXTS * 2
    assert mixed(many, pipes, texts) < 1e-5
    # What would fail if rows took another's: the adapters answer unlike each other.
    one = many.predict(TEXTS[:1] * len(pipes), adapter=list(pipes))
    assert len({round(a["logits"][0], 4) for a in one}) == len(pipes)


def test_every_method_is_served_or_says_why_not(tmp_path):
    assert set(REFUSED) < set(registry.names())
    base = trained("bert")
    for method, reason in REFUSED.items():
        pipe = trained("bert", method)
        path = str(tmp_path / f"{method}.safetensors")
        with pytest.raises(InputError, match=reason):
            pipe.save_adapter(path)
            AdapterSet(base).attach("one", path)
    served = 0
    for method in SERVED:
        trained("bert", options(method)).save_adapter(tmp_path / method)
        AdapterSet(base).attach("one", tmp_path / method)
        served += 1
    print(f"covered {served + len(REFUSED)} of {len(registry.names())}")


def test_a_run_with_an_adapter_is_the_base_of_others(tmp_path):
    """Its own adapter answers to "", and the others stand on what lies below it."""
    pipes = {"one": trained("bert", "ia3", seed=1)}
    many, pipes = attached(tmp_path, pipes, trained("bert", "lora", seed=5))
    assert mixed(many, pipes) < 1e-5


def test_an_adapter_of_other_labels(tmp_path):
    """Answers are filled up to the most classes, with "" and 0."""
    labels = {"one": ("a", "b"), "two": ("x", "y", "z"), "three": ("b", "a")}
    pipes = {
        name: trained("bert", "lora", TextClassification(labels=own, max_length=32), seed)
        for seed, (name, own) in enumerate(labels.items(), 1)
    }
    many, pipes = attached(tmp_path, pipes, trained("bert"))
    assert mixed(many, pipes) < 1e-5
    (answer,) = many.predict(["good film"], adapter="one")
    assert len(answer["probabilities"]) == 3 and answer["probabilities"][2] == 0
    assert many.tasks["two"].labels == ("x", "y", "z")


@pytest.mark.slow
def test_entities_of_other_labels_are_filled_up_with_nothing(tmp_path):
    """Shorter lists of places end with -1, which is no place, in the SavedModel too."""
    labels = {"one": ("PER", "LOC"), "two": ("X", "Y", "Z")}
    pipes = {
        name: trained("bert", "lora", TokenClassification(labels=own, max_length=16), seed)
        for seed, (name, own) in enumerate(labels.items(), 1)
    }
    base = trained("bert", task=TokenClassification(labels=("A", "B"), max_length=16))
    many, pipes = attached(tmp_path, pipes, base)
    texts = ["the film was good a story " * 3, "good", "free prize now", "", "the film"]
    names = ["two", "one", "one", "two", ""]
    found = many.predict(texts, names)
    for text, name, answer in zip(texts, names, found, strict=True):
        assert answer["start"] == answered(pipes[name], [text])[0]["start"]
        assert answer["label"] == answered(pipes[name], [text])[0]["label"]
    assert len({len(answer["start"]) for answer in found}) > 1
    serve = tf.saved_model.load(many.export(tmp_path / "served")).signatures["serving_default"]
    got = serve(text=tf.constant(texts[:2]), adapter=tf.constant(["two", "nobody"]))
    assert (got["start"][1].numpy() == -1).all() and (got["label"][1].numpy() == b"").all()


def test_a_change_of_what_rows_share_is_refused(tmp_path):
    """DeBERTa's norm of distances is no function of a row."""
    path = str(tmp_path / "norms.safetensors")
    trained("deberta_v3", "layer-norm").save_adapter(path)
    with pytest.raises(InputError, match="all rows of a batch share"):
        AdapterSet(trained("deberta_v3")).attach("norms", path)


SPANS = {
    "entities": TokenClassification(labels=("PER", "LOC"), max_length=16),
    "answers": QuestionAnswering(max_length=24, overlap=4),
    "windows": TextClassification(labels=("a", "b"), max_length=12, long_texts="mean", overlap=2),
    "a score": TextClassification(problem="regression", max_length=16),
    "several labels": TextClassification(
        labels=("a", "b", "c"), problem="multi-label", max_length=16
    ),
}


@pytest.mark.parametrize(
    "kind",
    ["entities", *(pytest.param(k, marks=pytest.mark.slow) for k in SPANS if k != "entities")],
)
def test_texts_in_several_windows_keep_their_adapter(tmp_path, kind):
    task = SPANS[kind]
    pipes = {n: trained("bert", "lora", task, seed) for seed, n in enumerate(("one", "two"), 1)}
    many, pipes = attached(tmp_path, pipes, trained("bert", task=task, seed=3))
    texts = ["the film was good a story free prize " * (i + 1) for i in range(5)] + ["", "good"]
    if kind == "answers":
        texts = [("was it good", text) for text in texts]
    assert mixed(many, pipes, texts) < 1e-5


@pytest.mark.parametrize("beams", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_decoder_writes_with_the_adapter_of_each_row(tmp_path, beams):
    task = CausalLM(max_length=32, max_new_tokens=6, beams=beams)
    pipes = {
        n: trained(
            "llama", {"name": "lora", "rank": 4, "targets": ["query", "value", "up"]}, task, s
        )
        for s, n in enumerate(("one", "two"), 1)
    }
    many, pipes = attached(tmp_path, pipes, trained("llama", task=task))
    texts = ["the film was", "good", "free prize call", "a story", "now", "you"]
    names = ["one", "two", ""] * 2
    got = many.predict(texts, adapter=names)
    alone = {name: pipe.predict(texts) for name, pipe in pipes.items()}
    assert got == [alone[name][row] for row, name in enumerate(names)]
    assert len({a["completion"] for a in many.predict(["good"] * 3, ["", "one", "two"])}) == 3


@pytest.mark.slow
def test_a_decoder_in_a_saved_model(tmp_path):
    task = CausalLM(max_length=32, max_new_tokens=6)
    one = trained("llama", "lora", task, 1)
    many, _ = attached(tmp_path, {"one": one}, trained("llama", task=task))
    many.export(tmp_path / "served")
    signatures = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures
    assert "adapter" in signatures["generate"].structured_input_signature[1]
    rows = {"max_new_tokens": 6, "top_k": 0, "seed": 0}
    asked = {n: tf.fill([2], tf.constant(v, tf.int32)) for n, v in rows.items()}
    asked |= {"temperature": tf.zeros([2]), "top_p": tf.ones([2])}
    got = signatures["generate"](
        prompt=tf.constant(["good"] * 2), adapter=tf.constant(["one", "nobody"]), **asked
    )["completion"]
    assert got[0] == one.predict(["good"])[0]["completion"].encode()
    assert got[1] == b""


def test_one_saved_model_of_all(tmp_path):
    labels = {"one": ("a", "b"), "two": ("x", "y", "z")}
    pipes = {
        n: trained("bert", "lora", TextClassification(labels=own, max_length=32), seed)
        for seed, (n, own) in enumerate(labels.items(), 1)
    }
    many, pipes = attached(tmp_path, pipes, trained("bert"))
    place = many.export(tmp_path / "served")
    assert place.endswith("1")
    extra = json.loads((tmp_path / "served/1/assets.extra/adapters.json").read_text())
    assert extra == {"": ["a", "b"], "one": ["a", "b"], "two": ["x", "y", "z"]}
    signatures = tf.saved_model.load(place).signatures
    assert set(signatures) == {"serving_default", "token_ids", "tokenize", "classify"}
    for name in set(signatures) - {"classify"}:
        spec = signatures[name].structured_input_signature[1]["adapter"]
        assert (spec.dtype, spec.shape.as_list()) == (tf.string, [None])
    serve = signatures["serving_default"]
    names = ["two", "nobody", "", "one"]
    got = serve(text=tf.constant(["good film"] * 4), adapter=tf.constant(names))
    assert got["probabilities"].shape == (4, 3)
    # A name that is not there is answered nothing, and harms nobody else's row.
    assert got["label"][1] == b"" and not np.any(got["probabilities"][1])
    for row in (0, 2, 3):
        want = pipes[names[row]].predict(["good film"])[0]
        np.testing.assert_allclose(
            got["probabilities"][row][: len(want["probabilities"])],
            want["probabilities"],
            atol=1e-5,
        )
        assert got["label"][row] == want["label"].encode()
    # An example holds the name as a feature, and gets the classes of its own adapter.
    rows = examples({"text": ["good film"] * 4, "adapter": names})
    by_example = signatures["classify"](inputs=tf.constant(rows))
    np.testing.assert_allclose(by_example["scores"], got["probabilities"], atol=1e-6)
    classes = [["x", "y", "z"], ["", "", ""], ["a", "b", ""], ["a", "b", ""]]
    assert by_example["classes"].numpy().tolist() == [[c.encode() for c in row] for row in classes]


@pytest.mark.slow
def test_the_file_is_the_base_and_the_adapters(tmp_path):
    """Two more adapters add their own numbers and no more of the base."""
    pipes = {f"n{i}": trained("bert", "lora", seed=i) for i in range(1, 4)}
    many, _ = attached(tmp_path, pipes, trained("bert"))
    small = many.export(tmp_path / "three")
    more, added = AdapterSet(many._base.pipe), 0
    for name in (*pipes, "n4", "n5"):
        path = str(tmp_path / f"{name}.safetensors")
        if name not in pipes:
            trained("bert", "lora", seed=int(name[1])).save_adapter(path)
            added += sum(v.nbytes for v in weights.read(path)[0].values())
        more.attach(name, path)
    large = more.export(tmp_path / "five")
    sizes = [
        sum(f.stat().st_size for f in (tmp_path / n / "1/variables").iterdir())
        for n in ("three", "five")
    ]
    assert large != small and sizes[1] - sizes[0] == pytest.approx(added, rel=0.02)


def test_attach_switch_detach(tmp_path):
    pipes = {"one": trained("bert", "lora", seed=1), "two": trained("bert", "ia3", seed=2)}
    many, pipes = attached(tmp_path, pipes, trained("bert"))
    for name in ("one", "two", "", "one"):
        assert apart(many.predict(["good"], name)[0], answered(pipes[name], ["good"])[0]) < 1e-5
    assert many.names == ["one", "two"]
    many.detach("one")
    with pytest.raises(InputError, match="no such adapter.*'one'.*two"):
        many.predict(["good"], "one")
    assert apart(many.predict(["good"], "two")[0], answered(pipes["two"], ["good"])[0]) < 1e-5


def test_an_adapter_alone_is_the_pipeline_it_was(tmp_path):
    one = trained("bert", "lora", seed=1)
    many, _ = attached(tmp_path, {"one": one}, trained("bert"))
    alone = many.alone("one")
    assert alone.predict(TEXTS) == one.predict(TEXTS)
    assert [v.path for v in alone.model.trainable_variables] == [
        v.path for v in one.model.trainable_variables
    ]
    again = many.alone("one")
    again.head_variables[0].assign(again.head_variables[0] * 0)
    assert alone.predict(TEXTS) == one.predict(TEXTS)  # each has its own weights


def test_a_sum_of_adapters_is_the_sum_of_what_they_add(tmp_path):
    """Kernels of merged models, added up by hand, answer the same."""
    shares = {"one": 0.7, "two": 0.5}
    pipes = {
        "one": trained("bert", "lora", seed=1),
        "two": trained("bert", {"name": "lora", "rank": 3}, seed=2),
    }
    base = trained("bert")
    many, _ = attached(tmp_path, pipes, base)
    many.attach("both", shares)
    merged = {name: pipe.merged() for name, pipe in pipes.items()}
    state = weights.state_of(base.backbone)
    for path in state:
        own = [weights.state_of(p.backbone)[path] for p in merged.values()]
        state[path] = state[path] + sum(
            w * (value - state[path]) for w, value in zip(shares.values(), own, strict=True)
        )
    by_hand = trained("bert")
    weights.assign(by_hand.backbone, state, "by hand")
    for variable, *heads in zip(
        by_hand.head_variables, *(p.head_variables for p in pipes.values()), strict=True
    ):
        variable.assign(np.average([np.asarray(h) for h in heads], 0, list(shares.values())))
    for got, want in zip(many.predict(TEXTS, "both"), by_hand.predict(TEXTS), strict=True):
        assert apart(got, want) < 1e-5
    many.attach("less", {"one": 1.0, "two": -0.5}, head="one")
    many.export(tmp_path / "sums")
    with pytest.raises(InputError, match="sum of adapters"):
        many.alone("both")


def test_what_is_no_adapter_of_this_base_is_refused(tmp_path):
    many = AdapterSet(trained("bert"))
    other = str(tmp_path / "other.safetensors")
    trained("bert", "lora", base=1).save_adapter(other)
    own = str(tmp_path / "own.safetensors")
    trained("bert", "lora").save_adapter(own)
    longer = str(tmp_path / "longer.safetensors")
    trained("bert", "lora", TextClassification(labels=("a", "b"), max_length=40)).save_adapter(
        longer
    )
    endless = str(tmp_path / "endless.safetensors")
    pipe = trained("bert", "lora")
    pipe.head_variables[0].assign(np.full(pipe.head_variables[0].shape, np.nan))
    pipe.save_adapter(endless)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "own.safetensors").read_bytes()[:-50])
    many.attach("one", own)
    wrong = {
        "fingerprints": lambda: many.attach("two", other),
        "task.max_length": lambda: many.attach("two", longer),
        "whole safetensors": lambda: many.attach("two", tmp_path / "cut.safetensors"),
        "There is no file": lambda: many.attach("two", tmp_path / "gone.safetensors"),
        "name of its own": lambda: many.attach("one", own),
        "no such adapter": lambda: many.attach("two", {"one": 1.0, "nobody": 1.0}),
        "adapters and weights": lambda: many.attach("two", {}),
        "of its own that": lambda: many.attach("a\ud800", own),
        "which are numbers": lambda: many.attach("two", {"one": "much"}),
        "no finite float32": lambda: many.attach("two", endless),
        "not below 0": lambda: many.attach("two", {"one": -1.0}),
        "Only a sum": lambda: many.attach("two", own, head="one"),
        "one a text": lambda: many.predict(["good"], ["one", "one"]),
        "cannot be detached": lambda: many.detach(""),
        "no such adapter. Received: 'oen'": lambda: many.predict(["good"], "oen"),
    }
    for message, ask in wrong.items():
        with pytest.raises(InputError, match=message):
            ask()
    assert many.names == ["one"]


def test_a_base_in_a_form_of_its_own_is_refused():
    with pytest.raises(InputError, match="qlora"):
        AdapterSet(trained("bert", "qlora"))


def test_rows_that_take_their_neighbours_adapter_are_noticed(tmp_path, monkeypatch):
    """The equality above is no accident: with the gather turned round it fails."""
    pipes = {n: trained("bert", "lora", seed=seed) for seed, n in enumerate(("one", "two"), 1)}
    many, pipes = attached(tmp_path, pipes, trained("bert"))
    plain = _routes.Routes.choose
    monkeypatch.setattr(_routes.Routes, "choose", lambda self, adapter: plain(self, adapter[::-1]))
    with pytest.raises(AssertionError):
        assert mixed(many, pipes) < 1e-5


def test_changes_are_those_of_the_merged_weights():
    """o W i + A B and o b + c are kernel and bias after a merge."""
    pipe = trained("bert", EXTRA["dora"], seed=1)
    base = weights.state_of(tiny.backbone("bert"))
    merged = weights.state_of(pipe.merged().backbone)
    for key, change in changes_of(pipe.backbone, base).items():
        inputs = int(np.prod(change.a.shape[0]))
        kernel = base[f"{key}/kernel"].reshape(inputs, -1)
        whole = kernel * change.outputs + change.a @ change.b
        np.testing.assert_allclose(
            whole.reshape(-1), merged[f"{key}/kernel"].reshape(-1), atol=1e-6
        )
        bias = base[f"{key}/bias"].reshape(-1) * change.outputs + change.shift
        np.testing.assert_allclose(bias, merged[f"{key}/bias"].reshape(-1), atol=1e-6)


def test_a_task_that_asks_several_things_of_a_text_is_refused():
    task = ZeroShotClassification(through="entailment", max_length=32)
    with pytest.raises(InputError, match="zero-shot-classification"):
        AdapterSet(trained("bert", task=task))

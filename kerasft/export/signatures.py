"""The signatures of a pipeline: what a SavedModel can be asked, as functions of the graph."""

from typing import Any

from kerasft._core.errors import InputError
from kerasft.backbones import pieces, template_of
from kerasft.data import input_specs
from kerasft.export.examples import of_examples


def signatures_of(pipe: Any, adapters: Any = None) -> dict[str, Any]:
    """The signatures, traced: name -> concrete function."""
    served = functions_of(pipe)
    if adapters:
        served = {name: adapters.by_adapter(*parts) for name, parts in served.items()}
    # A tokenizer whose pieces are not made in the graph has no `tokenize`.
    made = {name: _traced(*parts, name == "tokenize") for name, parts in served.items()}
    # They call what answers strings, so that its graph is there once.
    by_example = of_examples(
        pipe.task,
        made["serving_default"],
        served["serving_default"][1],
        adapters.classes if adapters else None,
    )
    made |= {name: _traced(*parts) for name, parts in by_example.items()}
    return {name: f.get_concrete_function() for name, f in made.items() if f is not None}


def _traced(function: Any, specs: list[Any], optional: bool = False) -> Any:
    """A function of the graph, traced; None where it may lack and does."""
    import tensorflow as tf

    # Without autograph, which would wrap the errors of our own code.
    made = tf.function(function, input_signature=specs, autograph=False)
    try:
        made.get_concrete_function()
    except InputError:
        if not optional:
            raise
        return None
    return made


def functions_of(pipe: Any) -> dict[str, tuple[Any, list[Any]]]:
    """The signatures of a pipeline: name -> (function of tensors, what it takes)."""
    import tensorflow as tf

    names, task = pipe.inputs, pipe.task

    def serving_default(*values):
        fields = {n: _unpadded(v) for n, v in zip(task.inputs, values, strict=True)}
        return pipe.answers(fields)

    def token_ids(*values):
        features = {n: tf.cast(v, tf.int32) for n, v in zip(names, values, strict=True)}
        return {"logits": pipe.model(features, training=False)}

    kinds = {n: tf.bool for n in names if n.endswith("padding_mask")}
    ids = [
        tf.TensorSpec([None] * len(i.shape), kinds.get(n, tf.int32), name=n)
        for n, i in zip(names, pipe.model.inputs, strict=True)
    ]
    given = [_named(spec, name) for name, spec in input_specs(task).items()]
    found = {"serving_default": (serving_default, given), "token_ids": (token_ids, ids)}
    text = tf.TensorSpec([None], tf.string, name="text")
    found["tokenize"] = (lambda text: tokenized(pipe.tokenizer, text), [text])
    further = task.signatures(pipe) if hasattr(task, "signatures") else {}
    return found | {n: (f.python_function, list(f.input_signature)) for n, f in further.items()}


def tokenized(tokenizer: Any, texts: Any) -> dict[str, Any]:
    """The pieces of texts and where their words lie, without special ids, in the graph.

    Args:
        tokenizer: a KerasHub tokenizer.
        texts: string [batch].

    Returns:
        int32 [batch, most pieces]: `token_ids`, padded with the pad id; `start` and `end`, code
        points of the text, end exclusive, padded with -1.

    Raises:
        InputError: for a tokenizer whose pieces are not made in the graph.
    """
    found = pieces(tokenizer, texts)
    fill = {"token_ids": (found.ids, template_of(tokenizer).pad)}
    fill |= {"start": (found.start, -1), "end": (found.end, -1)}
    return {name: ragged.to_tensor(pad) for name, (ragged, pad) in fill.items()}


def _named(spec: Any, name: str) -> Any:
    """The tensor of an input; lists of texts come as [batch, most], padded with ""."""
    import tensorflow as tf

    return tf.TensorSpec(spec.shape, spec.dtype, name=name)


def _unpadded(values: Any) -> Any:
    """Lists of texts of unlike length; other values as they are."""
    import tensorflow as tf

    return values if values.shape.rank == 1 else tf.RaggedTensor.from_tensor(values, padding="")

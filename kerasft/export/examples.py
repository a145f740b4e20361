"""`classify` and `regress`: the answers of `serving_default` to serialized tf.Example."""

from collections.abc import Callable
from typing import Any

# Kind of report of a task -> its signature. Other answers (spans, texts, vectors) have no place
# in a Classification or a Regression.
SIGNATURES = {"multiclass": "classify", "multilabel": "classify", "regression": "regress"}


def method_name(signature: str) -> str:
    """What TF Serving calls the method of a signature."""
    return f"tensorflow/serving/{signature if signature in SIGNATURES.values() else 'predict'}"


def of_examples(
    task: Any, answer: Callable, specs: list[Any], classes: Callable | None = None
) -> dict[str, tuple[Callable, list[Any]]]:
    """The signature on tf.Example that a task's answers have, or none.

    `classify`: `classes` string and `scores` float32, both [batch, n], every class in the order of
    the labels; `regress`: `outputs` float32 [batch].

    Args:
        task: the task.
        answer: from tensors as `specs` tells to its answers, as `serving_default` does.
        specs: named tensors [batch], or [batch, most] where a row has a list of texts. A feature
            of an example is named like them: bytes for a string, int64 for a whole number.
        classes: (values of `specs`, n) -> string [batch, n], the classes of each row; those of the
            task where None.

    Returns:
        Name -> (function of `inputs`, what it takes), as `functions_of` gives them.

    Source: tensorflow_serving/apis/classification.proto, regression.proto.
    """
    import tensorflow as tf

    name = SIGNATURES.get(task.kind)
    if name is None:
        return {}
    given = [tf.TensorSpec([None], tf.string, name="inputs")]

    def classify(examples: Any) -> dict[str, Any]:
        values = parsed(examples, specs)
        fields = {spec.name: value for spec, value in zip(specs, values, strict=True)}
        if "labels" in fields:  # each row names its own
            own = fields["labels"]
        else:
            own = classes(values) if classes else _tiled(task.labels, values[0])
        return {"classes": own, "scores": answer(*values)["probabilities"]}

    def regress(examples: Any) -> dict[str, Any]:
        return {"outputs": answer(*parsed(examples, specs))["score"]}

    return {name: ({"classify": classify, "regress": regress}[name], given)}


def parsed(examples: Any, specs: list[Any]) -> list[Any]:
    """The tensors of serialized tf.Example, as specs tell them."""
    import tensorflow as tf

    whole, one = tf.io.FixedLenFeature([], tf.int64), tf.io.FixedLenFeature([], tf.string)
    several = tf.io.RaggedFeature(tf.string)
    kinds = {
        s.name: whole if s.dtype.is_integer else several if s.shape.rank == 2 else one
        for s in specs
    }
    found = tf.io.parse_example(examples, kinds)
    values = {n: v.to_tensor("") if kinds[n] is several else v for n, v in found.items()}
    return [tf.cast(v, s.dtype) if kinds[s.name] is whole else v for s, v in _pairs(specs, values)]


def _pairs(specs: list[Any], values: dict[str, Any]) -> list[tuple[Any, Any]]:
    return [(spec, values[spec.name]) for spec in specs]


def examples(fields: dict[str, list]) -> list[bytes]:
    """Rows as serialized tf.Example, for requests.

    Args:
        fields: name -> one value a row: a string, a whole number, or a list of strings.
    """
    from tensorflow.train import BytesList, Example, Feature, Features, Int64List

    def feature(value: Any) -> Any:
        if isinstance(value, (int, float)):
            return Feature(int64_list=Int64List(value=[int(value)]))
        texts = [value] if isinstance(value, (str, bytes)) else value
        raw = [t.encode() if isinstance(t, str) else t for t in texts]
        return Feature(bytes_list=BytesList(value=raw))

    rows = zip(*fields.values(), strict=True)
    return [
        Example(
            features=Features(feature={n: feature(v) for n, v in zip(fields, row, strict=True)})
        ).SerializeToString()
        for row in rows
    ]


def asked_by_example(
    task: Any, signatures: Any, fields: dict[str, list], adapter: list[str] | None = None
) -> dict[str, Any]:
    """What `classify` or `regress` answers rows, under the names of `serving_default`; empty where
    there is neither.

    Args:
        task: the task.
        signatures: the signatures of a loaded SavedModel.
        fields: name -> one value a row.
        adapter: the adapter of each row, where there are several.

    Returns:
        `probabilities` and `classes`, or `score`.
    """
    import tensorflow as tf

    name = SIGNATURES.get(task.kind)
    if name is None:
        return {}
    given = fields if adapter is None else fields | {"adapter": adapter}
    got = signatures[name](inputs=tf.constant(examples(given)))
    names = {"scores": "probabilities", "outputs": "score"}
    return {names.get(key, key): value.numpy() for key, value in got.items()}


def _tiled(labels: tuple[str, ...], like: Any) -> Any:
    import tensorflow as tf

    return tf.tile(tf.constant(labels)[None], [tf.shape(like)[0], 1])

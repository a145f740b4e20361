"""Small SavedModels of plain TensorFlow, one signature for each thing that a server is asked."""

import os

import tensorflow as tf

STATUS = "the text must not be bad"
KINDS = ("bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64", "string")
ADDED = 10_000  # times that `sums` adds up what it is given


def _many(table, asset, half):
    """The functions of the SavedModel `small`, and what they take."""

    def spec(dtype, *shape, name="x"):
        return tf.TensorSpec(shape, dtype, name=name)

    def checked(text):
        bad = tf.reduce_any(tf.equal(text, "bad"))
        with tf.control_dependencies([tf.debugging.Assert(~bad, [STATUS])]):
            return {"length": tf.strings.length(text)}

    def sums(x):
        # Some 100 ms of work that the graph cannot do beforehand.
        far = tf.while_loop(
            lambda i, _: i < ADDED, lambda i, s: (i + 1, s + x[0]), [0, tf.constant(0.0)]
        )
        return {"sum": far[1][None]}

    text = spec(tf.string, None, name="text")
    kinds = {kind: spec(getattr(tf, kind), None, 2, name=kind) for kind in KINDS}
    return {
        "half_plus_two": (lambda x: {"y": half * x + 2.0}, [spec(tf.float32, None)]),
        "numbers": (lambda text: {"number": table.lookup(text)}, [text]),
        "words": (lambda x: {"word": asset.lookup(x)}, [spec(tf.int64, None)]),
        "twice": (lambda text: {"same": text, "twice": tf.strings.join([text, text])}, [text]),
        "kinds": (
            lambda *values: {k: v[:, ::-1] for k, v in zip(kinds, values)},
            list(kinds.values()),
        ),
        "scalar": (lambda x: {"rows": tf.fill([2], x)}, [spec(tf.string)]),
        "any": (lambda x: {"flat": tf.reshape(x, [-1])}, [tf.TensorSpec(None, tf.int32, "x")]),
        "checked": (checked, [text]),
        "sums": (sums, [spec(tf.float32, 1)]),
    }


def small(folder):
    """A SavedModel with a variable, a table of constants and a table of an asset's lines."""
    words = os.path.join(folder, "words.txt")
    with open(words, "w", encoding="utf-8") as file:
        file.write("zero\nein\ndeux\n三\n")
    module = tf.Module()
    module.half = tf.Variable(0.5)
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(["a", "b\0b", "三"], [1, 2, 3]), -1
    )
    whole, line = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
    module.asset = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(words, tf.int64, line, tf.string, whole), "?"
    )
    functions = _many(module.table, module.asset, module.half)
    signatures = {
        name: tf.function(function, specs).get_concrete_function()
        for name, (function, specs) in functions.items()
    }
    return _save(module, folder, signatures)


def weights(folder, floats):
    """A SavedModel whose one signature adds up its weights."""
    module = tf.Module()
    module.weights = tf.Variable(tf.ones([floats]))
    total = tf.function(
        lambda x: {"y": x + tf.reduce_sum(module.weights)},
        [tf.TensorSpec([None], tf.float32, name="x")],
    )
    return _save(module, folder, {"serving_default": total})


def python(folder):
    """A SavedModel that calls back into Python."""

    def run(x):
        return {"y": tf.ensure_shape(tf.numpy_function(lambda v: v + 1, [x], tf.float32), [None])}

    signature = tf.function(run, [tf.TensorSpec([None], tf.float32, name="x")])
    return _save(tf.Module(), folder, {"serving_default": signature})


def _save(module, folder, signatures):
    made = os.path.join(folder, "model")
    tf.saved_model.save(module, made, signatures=signatures)
    return made

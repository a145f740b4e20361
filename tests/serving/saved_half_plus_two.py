"""TF Serving's example half_plus_two, made anew with tf.Module: a real SavedModel.

Its signatures and answers are those of saved_model_half_plus_two.py in TF Serving, written here for
TensorFlow 2: y = a x + b and y2 = a x + c with a = 0.5, b = 2, c = 3.
"""

import os


def save(folder: str, plus: float = 2.0) -> str:
    """Write a version's folder; `plus` is b."""
    import tensorflow as tf  # late: the other tests of this room never load it

    module = tf.Module()
    module.a, module.b, module.c = tf.Variable(0.5), tf.Variable(plus), tf.Variable(3.0)
    # A feature alone in its row, as parse_example gives it: [batch, 1].
    features = {"x": tf.io.FixedLenFeature([1], tf.float32)}

    def x_of(examples):
        return tf.io.parse_example(examples, features)["x"]

    rows = [tf.TensorSpec([None], tf.float32, name="x")]
    examples = [tf.TensorSpec([None], tf.string, name="inputs")]
    functions = {
        "serving_default": ("predict", rows, lambda x: {"y": module.a * x + module.b}),
        "regress_x_to_y": (
            "regress",
            examples,
            lambda inputs: {"outputs": module.a * x_of(inputs) + module.b},
        ),
        "regress_x_to_y2": (
            "regress",
            examples,
            lambda inputs: {"outputs": module.a * x_of(inputs) + module.c},
        ),
        # Scores without classes: their labels are "".
        "classify_x_to_y": (
            "classify",
            examples,
            lambda inputs: {"scores": module.a * x_of(inputs) + module.b},
        ),
    }
    made = {n: tf.function(f, specs) for n, (_, specs, f) in functions.items()}
    signatures = {n: f.get_concrete_function() for n, f in made.items()}
    tf.saved_model.save(module, folder, signatures=signatures)
    # TensorFlow 2 writes `predict` for every signature.
    names = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(folder)
    for name, (method, *_) in functions.items():
        names.replace_method_name(name, f"tensorflow/serving/{method}")
    names.save()
    return folder


def save_versions(folder: str) -> str:
    """half_plus_two as version 123, and half_plus_three as 124, in folders with zeros before the
    number as TF Serving's own examples have."""
    for version, plus in ((123, 2.0), (124, 3.0)):
        save(os.path.join(folder, f"{version:08d}"), plus)
    return folder

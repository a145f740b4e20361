"""One seed for everything random in a run."""


def set_seed(seed: int) -> None:
    """Seed Python, NumPy, Keras and TensorFlow, and ask TensorFlow for one order of its sums.

    Without the last, two runs on several threads differ in the last digit, and then in all.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()

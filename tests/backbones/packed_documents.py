"""Three documents of different lengths, packed into two rows and alone."""

import numpy as np
import tensorflow as tf

from kerasft.testing._compare import difference

DOCUMENTS = (np.array([7, 21, 9, 33, 12]), np.array([8, 25, 14]), np.array([30, 11, 4, 19]))
LENGTH = 10
# Row -> the documents in it.
ORDER = ((0, 1), (2,))


def packed(changed=None, order=ORDER):
    """The inputs of packed rows; `changed` puts another document of the same length in a place."""
    documents = [(changed or {}).get(i, document) for i, document in enumerate(DOCUMENTS)]
    out = {
        name: np.zeros((len(order), LENGTH), np.int32)
        for name in ("token_ids", "segment_ids", "padding_mask", "document_ids")
    }
    for row, numbers in enumerate(order):
        start = 0
        for count, number in enumerate(numbers):
            here = (row, slice(start, start + len(documents[number])))
            for name, value in single(documents[number]).items():
                out[name][here] = value[0]
            out["document_ids"][here] = count + 1
            start = here[1].stop
    return out


def single(document):
    """The inputs of a row with one document and no padding."""
    places = np.arange(len(document))[None]
    return {
        "token_ids": document[None].astype(np.int32),
        "segment_ids": (places >= 2).astype(np.int32),
        "padding_mask": np.ones_like(places, np.int32),
    }


def pieces(sequence, order=ORDER):
    """Document -> its part of an output [rows, length, width]."""
    found = {}
    for row, numbers in enumerate(order):
        start = 0
        for number in numbers:
            found[number] = sequence[row, start : start + len(DOCUMENTS[number])]
            start += len(DOCUMENTS[number])
    return found


def sequence(out, tensor=False):
    """The vectors of all tokens, as numbers."""
    out = out["sequence_output"] if isinstance(out, dict) else out
    return out if tensor else np.asarray(tf.cast(out, tf.float32))


def alone(backbone, document, tensor=False):
    """What the backbone itself gives for a document [length, width]."""
    names = [t.name for t in backbone.inputs]
    x = {name: value for name, value in single(document).items() if name in names}
    return sequence(backbone(x), tensor)[0]


def factors(number):
    """Fixed random factors for the outputs of a document, so that no sum cancels out."""
    random = np.random.default_rng(number)
    return random.standard_normal((len(DOCUMENTS[number]), 16)).astype(np.float32)


def close_gradients(weights, got, want, most=1e-5):
    """Each gradient equals the other within `most` of its largest number.

    What is zero in exact numbers (the gradient of a key's bias) is noise here, so a tenth of the
    largest of all gradients is the least that counts as a gradient's size.
    """
    got, want = ([_dense(gradient) for gradient in side] for side in (got, want))
    largest = max(np.abs(gradient).max() for gradient in want if gradient is not None)
    for weight, one, other in zip(weights, got, want, strict=True):
        assert (one is None) == (other is None), f"gradient of {weight.path} on one side only"
        if other is None:
            continue
        found = difference(one, other) / max(np.abs(other).max(), 0.1 * largest)
        assert found <= most, f"gradient of {weight.path} differs by {found:.3g}"


def _dense(gradient):
    return None if gradient is None else np.asarray(tf.convert_to_tensor(gradient))

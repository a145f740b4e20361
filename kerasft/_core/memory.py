"""Memory that a step has freed is kept for the next one."""

import ctypes
import functools
import os
import sys

# Parameters of glibc's mallopt (malloc.h), and what they are set to.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
SETTINGS = {_MMAP_THRESHOLD: 1 << 30, _TRIM_THRESHOLD: (1 << 31) - 1, _TOP_PAD: 1 << 26}
# Who sets one of these has tuned the allocator, or put another one in its place.
OWN = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


@functools.cache
def keep_freed() -> bool:
    """Have glibc keep freed memory; True where that was done, once a process.

    On Python 3.11 and later TensorFlow sets M_MMAP_THRESHOLD to 128 KiB when the first
    `Dataset.from_generator` of a process is iterated (`ApplyPython311MemoryPatch`, against a leak
    in generators). From then on every larger tensor is mapped, filled with zeros page by page, and
    unmapped again: a third of the time of a training on CPUs. So this lets TensorFlow do it first,
    and then sets what training needs. What is kept is what a step needs at its peak.

    Does nothing outside Linux with glibc, under another allocator, and where one of `OWN` is set.

    Source: tensorflow/core/kernels/data/generator_dataset_op.cc; mallopt(3).
    """
    if not sys.platform.startswith("linux") or any(os.environ.get(name) for name in OWN):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version") or not hasattr(library, "mallopt"):
        return False
    import tensorflow as tf

    with tf.init_scope(), tf.device("CPU:0"):
        empty = tf.data.Dataset.from_generator(
            lambda: iter(()), output_signature=tf.TensorSpec((), tf.int32)
        )
        for _ in empty:
            pass
    return all(library.mallopt(name, value) == 1 for name, value in SETTINGS.items())

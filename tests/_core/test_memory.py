"""Freed memory is kept, whatever TensorFlow set (each in a process of its own)."""

import os
import subprocess
import sys

import pytest

from kerasft._core import memory

SCRIPT = """
import ctypes, sys
import tensorflow as tf
from kerasft._core import memory

class Mallinfo2(ctypes.Structure):
    _fields_ = [(n, ctypes.c_size_t) for n in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
                .split()]

library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
library.malloc.argtypes, library.mallinfo2.restype = [ctypes.c_size_t], Mallinfo2

def mapped():  # a block of 8 MiB, taken again after it was freed: is it mapped?
    library.free(library.malloc(8 << 20))
    before = library.mallinfo2().hblks
    block = library.malloc(8 << 20)
    found = library.mallinfo2().hblks - before
    library.free(block)
    return found

def iterate():
    return list(tf.data.Dataset.from_generator(
        lambda: iter(range(2)), output_signature=tf.TensorSpec((), tf.int32)))

kept = memory.keep_freed() if "keep" in sys.argv else None
iterate()
print(kept, mapped())
"""


def _run(*arguments, **variables):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | variables,
    )
    return done.stdout.split()


def _glibc():
    return sys.platform.startswith("linux") and os.confstr("CS_GNU_LIBC_VERSION") is not None


def test_freed_memory_is_kept_after_a_generator():
    assert _run("keep") == (["True", "0"] if _glibc() else ["False", "0"])


def test_without_it_tensorflow_has_large_blocks_mapped():
    """When this fails, TensorFlow no longer does so and `keep_freed` may go."""
    wanted = "1" if _glibc() and sys.version_info >= (3, 11) else "0"
    assert _run() == ["None", wanted]


@pytest.mark.parametrize("name", memory.OWN)
def test_who_has_tuned_the_allocator_is_left_alone(monkeypatch, name):
    monkeypatch.setenv(name, "glibc.malloc.check=0")
    assert memory.keep_freed.__wrapped__() is False

"""TensorFlow's C runtime answers as TensorFlow does, and mistakes are errors, never crashes."""

import ctypes
import gc
import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import small_models
import tensorflow as tf
from test_without_keras import TEXTS

from kerasft._core.errors import InputError
from kerasft.export import _c_tensors
from kerasft.export._stubs import package_folder
from kerasft.export.c_runtime import CModel, StatusError, TensorSpec

TEXT_OPS = Path(package_folder("tensorflow_text"), "python", "ops")
# A process that serves: what it has loaded at the end is the last line that it prints.
CHILD = """
import json, sys
import numpy as np
from kerasft.export.c_runtime import CModel, StatusError
from kerasft._core.errors import KerasftError
{code}
from pathlib import Path
heavy = {{"tensorflow", "keras", "keras_hub", "tensorflow_text"}} & set(sys.modules)
assert not heavy, heavy
assert "_pywrap_tensorflow" not in Path("/proc/self/maps").read_text()
"""


def child(code, *arguments):
    """What a process with the C runtime alone prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(code=code), *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def strings(*values):
    return np.array([v if isinstance(v, bytes) else v.encode() for v in values], dtype=object)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_models.small(str(tmp_path_factory.mktemp("small")))


@pytest.fixture(scope="module")
def model(folder):
    with CModel(folder) as loaded:
        yield loaded


def resident():
    """Bytes of memory that this process uses: what it has freed is given back before."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_signatures(model):
    assert model.version == tf.__version__
    assert "__saved_model_init_op" not in model.signatures
    found = model.signatures["kinds"]
    assert found.method == "tensorflow/serving/predict"
    assert found.inputs["bfloat16"] == TensorSpec("bfloat16", (None, 2))
    assert found.inputs["string"] == found.outputs["string"] == TensorSpec("string", (None, 2))
    assert model.signatures["scalar"].inputs == {"x": TensorSpec("string", ())}
    assert model.signatures["any"].inputs == {"x": TensorSpec("int32", None)}


def test_half_plus_two(model):
    got = model.run("half_plus_two", {"x": np.float32([1, 2, 5])})
    assert got["y"].dtype == np.float32 and got["y"].tolist() == [2.5, 3.0, 4.5]


def test_vocabularies_are_filled(model):
    """From constants and from an asset: the loader has run their initialisers."""
    found = model.run("numbers", {"text": strings("b\0b", "a", "三", "b", "")})
    assert found["number"].tolist() == [2, 1, 3, -1, -1]
    found = model.run("words", {"x": np.int64([3, 0, 9])})
    assert found["word"].tolist() == ["三".encode(), b"zero", b"?"]


# The longest that a TF_TString keeps in itself has 22 bytes.
ODD = strings(*TEXTS, b"\xff\xfe\x00", "x" * 22, "x" * 23, "\0" * 22, "\0" * 23)


def test_strings(model):
    got = model.run("twice", {"text": ODD})
    assert got["same"].tolist() == ODD.tolist()
    assert got["twice"].tolist() == [text * 2 for text in ODD]


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_every_type_comes_back(model, rows):
    values = np.arange(2 * rows).reshape(rows, 2)
    inputs = {
        name: (values % 2 if name == "bool" else values).astype(spec.numpy_type)
        for name, spec in model.signatures["kinds"].inputs.items()
    }
    inputs["string"] = np.array([[b"a", b"\0"], [b"", b"b"], [b"c", b"d"]], object)[:rows]
    got = model.run("kinds", inputs)
    for name, value in inputs.items():
        assert got[name].dtype == value.dtype
        assert got[name].tolist() == value[:, ::-1].tolist()


def test_scalars_open_shapes_and_arrays_that_are_views(model):
    assert model.run("scalar", {"x": np.array(b"a", object)})["rows"].tolist() == [b"a", b"a"]
    for value in (np.arange(6, dtype=np.int32).reshape(2, 3).T, np.int32(4)):
        got = model.run("any", {"x": value})["flat"]
        assert got.tolist() == value.ravel().tolist()


@pytest.mark.parametrize(
    ("signature", "inputs", "said"),
    [
        ("serving", {}, "The signatures are .*'half_plus_two'.* Received: 'serving'"),
        ("twice", {}, "takes the inputs 'text'. Received: none"),
        ("twice", {"texts": strings("a")}, "takes the inputs 'text'. Received: 'texts'"),
        ("twice", {"text": strings("a"), "b": strings("a")}, "Received: 'text', 'b'"),
        ("half_plus_two", {"x": [1.0]}, r"is float32 \[any\]. Received: float64 \[1\]"),
        ("half_plus_two", {"x": np.array([1], ">f4")}, r"Received: >f4 \[1\]"),
        ("half_plus_two", {"x": np.float32(1)}, r"Received: float32 \[\]"),
        ("sums", {"x": np.float32([1, 2])}, r"is float32 \[1\]. Received: float32 \[2\]"),
        ("any", {"x": np.int64(1)}, "is int32 of any shape. Received: int64"),
        ("twice", {"text": strings("a")[None]}, r"is string \[any\].* Received: object of bytes"),
        ("twice", {"text": np.array([b"a\0"])}, "an object array of bytes. Received: |S1"),
        ("twice", {"text": ["a"]}, "an object array of bytes. Received: <U1"),
        ("twice", {"text": np.array(["a", b"b"], object)}, "Received: object of bytes and str"),
    ],
)
def test_wrong_calls_are_refused(model, signature, inputs, said):
    with pytest.raises(InputError, match=said):
        model.run(signature, inputs)


def test_an_error_of_the_graph_has_its_code(model):
    assert model.run("checked", {"text": strings("ok")})["length"].tolist() == [2]
    with pytest.raises(StatusError, match=small_models.STATUS) as raised:
        model.run("checked", {"text": strings("ok", "bad")})
    assert raised.value.code == "INVALID_ARGUMENT"
    assert model.run("checked", {"text": strings("ok")})["length"].tolist() == [2]


def test_the_libraries_may_be_named(model, folder):
    named = {"library": package_folder("tensorflow"), "text_ops": f"{TEXT_OPS}/"}
    with CModel(folder, threads=1, **named) as again:
        assert again.signatures == model.signatures


def test_a_missing_folder(tmp_path):
    with pytest.raises(StatusError, match="Could not find SavedModel") as raised:
        CModel(str(tmp_path))
    assert raised.value.code == "NOT_FOUND"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"library": "/"}, "a process can hold one only. Received: / "),
        ({"text_ops": "/"}, "a process can hold one only. Received: .* with /"),
        ({"threads": 0}, "a whole number, at least 1. Received: threads=0"),
    ],
)
def test_wrong_options_are_refused(model, folder, options, said):
    with pytest.raises(InputError, match=said):
        CModel(folder, **options)


def test_a_closed_model(folder):
    with CModel(folder) as model:
        pass
    model.close()
    with pytest.raises(StatusError, match="was closed") as raised:
        model.run("half_plus_two", {"x": np.float32([1])})
    assert raised.value.code == "UNAVAILABLE"


def test_closed_while_it_is_asked(folder):
    """Calls under way end well, later ones are refused. Freeing at once would crash here."""
    model, asked, answers = CModel(folder), threading.Barrier(5), []

    def ask():
        asked.wait()
        while True:
            try:
                answers.append(model.run("sums", {"x": np.float32([1])})["sum"].tolist())
            except StatusError as error:
                return error.code

    with ThreadPoolExecutor(4) as pool:
        ends = [pool.submit(ask) for _ in range(4)]
        asked.wait()
        model.run("sums", {"x": np.float32([1])})
        model.close()
    assert [end.result() for end in ends] == ["UNAVAILABLE"] * 4
    assert answers and all(answer == [small_models.ADDED] for answer in answers)


def test_python_goes_on_meanwhile(model):
    """In a call that held Python's lock nothing would be counted."""
    counted = 0
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(model.run, "sums", {"x": np.float32([1])})
        while not call.done():
            counted += 1
    assert counted > 100


def test_threads_get_what_they_would_alone(exported):
    texts = [strings(*(text[:200] for text in TEXTS[i : i + 3])) for i in range(8)]
    with CModel(exported("one text")) as model:

        def ask(number):
            return [model.run("serving_default", {"text": texts[number]}) for _ in range(50)]

        alone = [model.run("serving_default", {"text": text}) for text in texts]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(ask, range(8)))
    for want, found in zip(alone, together, strict=True):
        for got in found:
            assert got["label"].tolist() == want["label"].tolist()
            np.testing.assert_allclose(got["logits"], want["logits"], atol=1e-6)
    # Another thread's answer would be seen.
    assert not np.allclose(alone[0]["logits"], alone[1]["logits"], atol=1e-6)


@pytest.mark.parametrize("freed", [True, False], ids=["freed", "a leak would be seen"])
def test_memory_stays_flat(model, monkeypatch, freed):
    text = strings(*["x" * 20_000] * 2)
    for _ in range(300):
        model.run("twice", {"text": text})
    before = resident()
    if not freed:
        monkeypatch.setattr(_c_tensors, "delete", lambda *_: None)
    for _ in range(2000 if freed else 200):
        model.run("twice", {"text": text})
    grown = resident() - before
    assert (grown < 8 << 20) == freed


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open ones would be seen"])
def test_a_closed_model_is_freed(tmp_path, monkeypatch, closed):
    folder, grown = small_models.weights(str(tmp_path), 10_000_000), []
    if not closed:
        monkeypatch.setattr(CModel, "close", lambda _: None)
    for _ in range(8):
        with CModel(folder) as model:
            got = model.run("serving_default", {"x": np.float32([1])})["y"].tolist()
            assert got == [10_000_001.0]
        grown.append(resident())
    assert (grown[-1] - grown[2] < 100 << 20) == closed  # 40 MB a model


REFUSED = """
found = []
for folder in sys.argv[1:]:
    try:
        with CModel(folder) as model:
            found.append(model.run("serving_default", {"x": np.float32([1])})["y"].tolist())
    except StatusError as error:
        found.append([error.code, str(error)])
print(json.dumps(found))
"""


def damaged(good, folder, name, change):
    shutil.copytree(good, folder)
    path = next(Path(folder).glob(name))
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    return folder


def flipped(data):
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def test_damaged_ones_and_python_are_errors_not_crashes(tmp_path):
    (tmp_path / "good").mkdir()
    good = small_models.weights(str(tmp_path / "good"), 1000)
    bad = [
        damaged(good, tmp_path / "1", "saved_model.pb", lambda data: data[: len(data) // 2]),
        damaged(good, tmp_path / "2", "saved_model.pb", lambda data: b"\xff" * 100),
        damaged(good, tmp_path / "3", "saved_model.pb", lambda data: b""),
        damaged(good, tmp_path / "4", "variables/*.index", None),
        damaged(good, tmp_path / "5", "variables/*.index", lambda data: data[:20]),
        damaged(good, tmp_path / "6", "variables/*.data*", None),
        damaged(good, tmp_path / "7", "variables/*.data*", lambda data: data[:100]),
        damaged(good, tmp_path / "8", "variables/*.data*", flipped),
    ]
    (tmp_path / "python").mkdir()
    python = small_models.python(str(tmp_path / "python"))
    first, *found, called, last = child(REFUSED, good, *bad, python, good)
    assert first == last == [1001.0]
    codes = [code for code, _ in found]
    assert codes[3:] == [
        *("FAILED_PRECONDITION", "DATA_LOSS"),  # without an index: weights that nobody has filled
        *("NOT_FOUND", "OUT_OF_RANGE", "DATA_LOSS"),
    ]
    assert set(codes[:3]) <= {"DATA_LOSS", "OUT_OF_RANGE", "NOT_FOUND"}
    assert called[0] == "NOT_FOUND" and "PyFunc" in called[1]


LIBRARIES = """
found = []
for options in json.loads(sys.argv[2]):
    try:
        found.append(CModel(sys.argv[1], **options).version)
    except KerasftError as error:
        found.append(str(error))
print(json.dumps(found))
"""


def test_missing_libraries(exported, tmp_path):
    """The op libraries come last: once they are loaded, a process keeps what it has."""
    (tmp_path / "one").mkdir()
    (tmp_path / "text").mkdir()
    shutil.copy(TEXT_OPS / "_mst_ops.so", tmp_path / "one")
    (tmp_path / "text" / "_no.so").write_text("no library")
    asked = [
        {"library": str(tmp_path)},
        {"text_ops": str(tmp_path)},
        {"text_ops": str(tmp_path / "text")},
        {"text_ops": str(tmp_path / "one")},
    ]
    found = child(LIBRARIES, exported("one text"), json.dumps(asked))
    assert f"Received: the folder {tmp_path}, which does not hold it" in found[0]
    assert f"Received: the folder {tmp_path}, which holds none" in found[1]
    assert "_no.so: " in found[2]
    assert found[3].startswith("NOT_FOUND: Op type not registered")

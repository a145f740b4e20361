"""One set of rows, the same from every format and every kind of object."""

import csv
import gzip
import io
import json
import lzma
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from kerasft._core.errors import InputError
from kerasft.data import Source, open_source
from kerasft.data.tables import Table

FIELDS = {"text": "text", "label": "label", "tags": "labels", "score": "number"}
ROWS = [
    {"text": 'He said "no", twice', "label": "spam", "tags": ["b", "a"], "score": 0.5},
    {"text": "two\r\nlines\nand\ttabs", "label": "ham", "tags": [], "score": -1.0},
    {"text": "价格 \u2028 很好 café", "label": "正面", "tags": ["a"], "score": 3.0},
]
EXPECTED = {
    "text": [row["text"] for row in ROWS],
    "label": ["spam", "ham", "正面"],
    "tags": [("a", "b"), (), ("a",)],
    "score": [0.5, -1.0, 3.0],
}


def separated(delimiter: str, end: str = "\r\n") -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end)
    writer.writerow(FIELDS)
    writer.writerows([r["text"], r["label"], "|".join(r["tags"]), r["score"]] for r in ROWS)
    return out.getvalue().encode()


def json_lines() -> bytes:
    return "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out)
    return out.getvalue()


CONTENT = {
    ".csv": separated(","),
    ".tsv": separated("\t", "\n"),
    ".jsonl": json_lines(),
    ".json": json_lines().replace(b"\n\n", b"\r\n"),
    ".parquet": parquet(),
}
PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def rows_of(source: Source, size: int = 2) -> dict[str, list]:
    chunks = list(source.chunks(size))
    assert all(len(next(iter(chunk.values()))) <= size for chunk in chunks)
    return {field: sum((chunk[field] for chunk in chunks), []) for field in source.fields}


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("extension", CONTENT)
def test_every_format_gives_the_same_rows(tmp_path, extension, packed):
    path = tmp_path / f"Mails{extension}{packed}".upper()
    path.write_bytes(PACK[packed](CONTENT[extension]))
    source = open_source(path, FIELDS)
    assert rows_of(source) == EXPECTED
    assert rows_of(source) == EXPECTED, "a source can be read again"
    assert source.name == str(path)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl.xz", "a.parquet", "a.parquet.gz"])
@pytest.mark.parametrize("scheme", ["file", "ram"])
def test_any_path_that_gfile_opens(tmp_path, scheme, name):
    folder = f"file://{tmp_path}" if scheme == "file" else "ram://kerasft-data"
    extension, packed = "." + name.split(".")[1], name[len("a.") + len(name.split(".")[1]) :]
    with tf.io.gfile.GFile(f"{folder}/{name}", "wb") as file:
        file.write(PACK[packed](CONTENT[extension]))
    assert rows_of(open_source(f"{folder}/{name}", FIELDS)) == EXPECTED
    with pytest.raises(InputError, match="no file"):
        open_source(f"{folder}/b.csv", FIELDS)


def columns() -> dict[str, list]:
    return {field: [row[field] for row in ROWS] for field in FIELDS}


def arrays() -> dict[str, np.ndarray]:
    tags = np.empty(3, object)
    tags[:] = [row["tags"] for row in ROWS]
    return {field: np.array(v) for field, v in columns().items() if field != "tags"} | {
        "tags": tags
    }


def structured() -> np.ndarray:
    lines = [(r["text"], r["label"], "|".join(r["tags"]), r["score"]) for r in ROWS]
    return np.array(lines, [("text", "U40"), ("label", "U9"), ("tags", "U9"), ("score", "f4")])


def dataset() -> tf.data.Dataset:
    rows = columns() | {"tags": ["|".join(tags) for tags in columns()["tags"]]}
    return tf.data.Dataset.from_tensor_slices(rows)


def ragged() -> tf.data.Dataset:
    signature = {"text": tf.string, "label": tf.string, "score": tf.float32}
    signature = {name: tf.TensorSpec((), kind) for name, kind in signature.items()}
    signature["tags"] = tf.TensorSpec((None,), tf.string)
    return tf.data.Dataset.from_generator(lambda: iter(ROWS), output_signature=signature)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ROWS,
        lambda: tuple(ROWS),
        columns,
        arrays,
        structured,
        lambda: pd.DataFrame(columns()),
        lambda: pd.DataFrame(columns(), index=[7, 7, 9]),
        lambda: dict(pd.DataFrame(columns()).items()),
        lambda: tuple(columns().values()),
        dataset,
        ragged,
        lambda: open_source(ROWS, FIELDS),
    ],
)
def test_every_object_gives_the_same_rows(make):
    source = open_source(make(), FIELDS)
    assert rows_of(source) == EXPECTED
    assert rows_of(source) == EXPECTED
    assert len(source) == source.rows == 3


def test_columns_and_the_order_of_fields(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("class,body,other\nspam,hello,1\n")
    source = open_source(
        path,
        {"text": "text", "label": "label"},
        {"text": "body", "label": "class", "text_pair": "x"},
    )
    assert list(source.chunks()) == [{"text": ["hello"], "label": ["spam"]}]
    again = open_source(source, {"text": "text"})
    assert list(again.chunks()) == [{"text": ["hello"]}], "a source keeps its columns"
    renamed = open_source(source, {"text": "text"}, {"text": "other"})
    assert list(renamed.chunks()) == [{"text": ["1"]}]


def test_a_byte_order_mark_is_dropped(tmp_path):
    for name, content in (("a.csv", "text\nx\n"), ("a.jsonl", '{"text": "x"}\n')):
        (tmp_path / name).write_text(content, encoding="utf-8-sig")
        assert list(open_source(tmp_path / name, {"text": "text"}).chunks()) == [{"text": ["x"]}]


def test_separator_of_labels():
    source = open_source([{"t": "a;b"}], {"t": "labels"}, separator=";")
    again = open_source(source, {"t": "labels"})
    assert list(again.chunks()) == [{"t": [("a", "b")]}]
    assert list(source.chunks()) == [{"t": [("a", "b")]}]


def test_missing_values_of_pandas():
    frame = pd.DataFrame({"text": ["a", None, pd.NA], "tags": [None, ["x"], []]})
    frame["text"] = frame["text"].astype("string")
    source = open_source(frame, {"text": "text", "tags": "labels"}, empty="keep")
    assert list(source.chunks()) == [{"text": ["a", "", ""], "tags": [(), ("x",), ()]}]
    with pytest.raises(InputError, match="DataFrame, row 2: in column 'text' a text is expected"):
        list(open_source(frame, {"text": "text"}).chunks())


def test_number_of_rows_is_known_after_a_pass(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text\na\nb\nc\n")
    source = open_source(path, {"text": "text"})
    assert source.rows is None
    for _ in source.chunks(1):
        break
    assert source.rows is None, "a pass that was broken off knows nothing"
    assert len(list(source.chunks(2))) == 2
    assert source.rows == 3
    assert len(open_source(path, {"text": "text"})) == 3


@pytest.mark.parametrize("empty", ["", '""', "   ", "\u3000"])
def test_empty_text_names_file_and_line(tmp_path, empty):
    path = tmp_path / "a.csv"
    path.write_text(f'text,label\n"one\ntwo",a\n{empty},b\n')
    fields = {"text": "text", "label": "label"}
    with pytest.raises(InputError, match=r"a\.csv, line 4: in column 'text' .* empty"):
        list(open_source(path, fields).chunks())
    kept = list(open_source(path, fields, empty="keep").chunks())
    assert kept == [{"text": ["one\ntwo", ""], "label": ["a", "b"]}]


@pytest.mark.parametrize("cell", ["NaN", "inf", "", "abc"])
def test_a_score_that_is_no_number(tmp_path, cell):
    path = tmp_path / "a.tsv"
    path.write_text(f"text\tlabel\na\t1\nb\t{cell}\n")
    with pytest.raises(InputError, match=r"a\.tsv, line 3: in column 'label' a finite number"):
        list(open_source(path, {"text": "text", "label": "number"}).chunks())


def test_a_json_line_without_a_key(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": 1}\n\n{"text": "b"}\n{"text": null, "label": 2}\n')
    fields = {"text": "text", "label": "label"}
    with pytest.raises(InputError, match=r"line 3: in column 'label' a label is expected"):
        list(open_source(path, fields).chunks())
    with pytest.raises(InputError, match=r"line 4: in column 'text' a text is expected"):
        list(open_source(path, {"text": "text"}).chunks())


def test_messages_are_one_short_line():
    rows = [{"text": "fine"}, {"text": ["a\nb"] * 100}]
    with pytest.raises(InputError) as caught:
        list(open_source(rows, {"text": "text"}).chunks())
    message = str(caught.value)
    assert message.startswith("the list, row 2: in column 'text' a text is expected. Received: ['a")
    assert "\n" not in message and len(message) < 200


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([], "no rows"),
        ({}, "no column 'text'"),
        ({"text": []}, "no rows"),
        ([{"txt": "a"}], "no column 'text'; it has: 'txt'. Did you mean 'txt'?"),
        (["a", "b"], "row 1: a dict is expected. Received: str"),
        ({"text": "abc"}, "must be a list or an array. Received: str"),
        ({"text": np.array("abc")}, "must be a list or an array"),
        (
            {"text": ["a"], "label": [1, 2]},
            "same number of rows everywhere. Received: text=1, label=2",
        ),
        ((["a"], [1]), "one array for each of: text. Received: 2"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "'text' twice"),
        (iter([{"text": "a"}]), "Data must be a path"),
        (np.array(["a"]), "Data must be a path"),
        (None, "Data must be a path"),
        (3, "Received: int"),
    ],
)
def test_objects_that_are_no_data(spec, message):
    with pytest.raises(InputError) as caught:
        open_source(spec, {"text": "text"})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.batch(2), "call .unbatch()"),
        (lambda data: data.repeat(), "has no end"),
        (lambda data: data.map(lambda row: row["text"]), "must give dicts"),
        (lambda data: data.take(0), "no rows"),
    ],
)
def test_datasets_that_are_no_data(change, message):
    with pytest.raises(InputError) as caught:
        open_source(change(dataset()), FIELDS)
    assert message in str(caught.value)


def test_wrong_arguments():
    with pytest.raises(InputError, match="kind"):
        open_source(ROWS, {"text": "string"})
    with pytest.raises(InputError, match="empty"):
        open_source(ROWS, FIELDS, empty="drop")
    with pytest.raises(InputError, match="separator"):
        open_source(ROWS, FIELDS, separator="")
    with pytest.raises(InputError, match="size"):
        next(open_source(ROWS, FIELDS).chunks(0))


def test_a_source_reads_no_further_than_asked():
    given = []

    def read(columns):
        for number in range(1, 10_001):
            given.append(number)
            yield number, ("a",)

    chunks = open_source(Source(Table("t", read), {"text": "text"}), {"text": "text"}).chunks(100)
    given.clear()
    next(chunks)
    assert len(given) == 100


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.csv.xz", "a.parquet"])
def test_a_large_file_is_streamed(tmp_path, name):
    path, count = tmp_path / name, 100_000
    texts = [f"{i} " + "text " * 20 for i in range(count)]
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"text": texts}), path, row_group_size=10_000)
    else:
        line = "{}\n" if ".csv" in name else '{{"text": "{}"}}\n'
        data = "text\n" * (".csv" in name) + "".join(map(line.format, texts))
        path.write_bytes(lzma.compress(data.encode(), preset=0) if "xz" in name else data.encode())
    source = open_source(path, {"text": "text"})
    del texts
    tracemalloc.start()
    try:
        read = sum(len(chunk["text"]) for chunk in source.chunks())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert read == count
    assert peak < 5e6, f"{peak / 1e6:.1f} MB for a file of about 11 MB"


# Texts


def test_a_text_a_line(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_bytes('\ufeffone, "two"\r\n\n  \nthree\t4 \n最后'.encode())
    (chunk,) = open_source(path, {"text": "text"}).chunks()
    assert chunk["text"] == ['one, "two"', "three\t4 ", "最后"]
    source = open_source(path, {"text": "text"})
    assert [n for positions, _ in source.numbered() for n in positions] == [1, 4, 5]
    with pytest.raises(InputError, match="no column 'label'; it has: 'text'"):
        open_source(path, {"text": "text", "label": "label"})
    (chunk,) = open_source(path, {"body": "text"}, {"body": "text"}).chunks()
    assert len(chunk["body"]) == 3
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(path.read_bytes()))
    (packed,) = open_source(tmp_path / "packed.txt.gz", {"text": "text"}).chunks()
    assert packed["text"] == chunk["body"]

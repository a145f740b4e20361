"""Files that are not as they should be: one line with the file, the line and what to do."""

import gzip
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasft._core.errors import InputError
from kerasft.data import open_source, streams

FIELDS = {"text": "text", "label": "label"}


def error(path) -> str:
    """The message of the error that reading the whole file gives."""
    with pytest.raises(InputError) as caught:
        list(open_source(path, FIELDS).chunks())
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


def written(path, content: bytes):
    path.write_bytes(content)
    return path


def test_missing_file(tmp_path):
    written(tmp_path / "mails.csv", b"")
    message = error(tmp_path / "mail.csv")
    assert "There is no file" in message and "Did you mean 'mails.csv'?" in message
    assert "There is no file" in error(tmp_path / "no" / "mail.csv")


def test_folder(tmp_path):
    folder = tmp_path / "a.csv"
    folder.mkdir()
    assert "is a folder" in error(folder)
    assert "is a folder" in error(f"file://{folder}")


def test_unknown_scheme():
    assert "cannot be opened" in error("gopher://host/a.csv")


def test_unknown_extension(tmp_path):
    message = error(written(tmp_path / "a.xlsx", b"x"))
    assert (
        ".csv, .tsv, .txt, .jsonl, .ndjson, .json, .parquet, .conll, .bio, .iob, .iob2" in message
    )
    assert ".conllu (and .gz or .xz after it)" in message
    assert "Did you mean '.json'?" in error(written(tmp_path / "a.jsn.gz", b"x"))
    assert "must end in" in error(written(tmp_path / "a", b"x"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n\r\n", "is empty"),
        ("a.csv", b"text,label\n", "no rows"),
        ("a.csv", b"text,label", "no rows"),
        ("a.csv", b"text,label\n\n\n", "no rows"),
        ("a.tsv", b"\xef\xbb\xbf", "is empty"),
        ("a.jsonl", b"", "no rows"),
        ("a.jsonl", b"\n \n", "no rows"),
        ("a.csv.gz", b"", "is empty"),
        ("a.csv.xz", b"", "not a whole xz file"),
        ("a.parquet", b"", "not a whole Parquet file"),
    ],
)
def test_files_without_rows(tmp_path, name, content, message):
    assert message in error(written(tmp_path / name, content))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"txt,label\na,b\n"),
        ("a.tsv", b"txt\tlabel\na\tb\n"),
        ("a.jsonl", b'{"txt": "a", "label": "b"}\n'),
    ],
)
def test_missing_column(tmp_path, name, content):
    message = error(written(tmp_path / name, content))
    assert "no column 'text'; it has: 'txt', 'label'. Did you mean 'txt'?" in message
    assert "`columns`" in message


def test_missing_column_of_parquet(tmp_path):
    pq.write_table(pa.table({"txt": ["a"], "label": ["b"]}), tmp_path / "a.parquet")
    assert "no column 'text'; it has: 'txt', 'label'" in error(tmp_path / "a.parquet")
    pq.write_table(
        pa.table({"text": pa.array([], pa.string()), "label": []}), tmp_path / "b.parquet"
    )
    assert "no rows" in error(tmp_path / "b.parquet")


def test_column_that_comes_twice(tmp_path):
    assert "'text' twice" in error(written(tmp_path / "a.csv", b"text,text,label\na,b,c\n"))


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"text,label\na,b\nc\n", 3, "2 cells are expected, as in the first line. Received: 1"),
        (b"text,label\na,b,c\n", 2, "Received: 3"),
        (b'text,label\n"x\ny",b\n\nc,d,e\n', 5, "Received: 3"),
        (b'text,label\r\n"x\r\ny",b\r\nc,d,e\r\n', 4, "Received: 3"),
        (b"text,label\ra,b\rc\r", 3, "Received: 1"),
        (b'text,label\na,b\n"c,d\ne,f\n', 3, "not valid CSV (unexpected end of data)"),
        (b'text,label\na,b\n"c"d,e\n', 3, "not valid CSV"),
        (b"text,label\na,b\nc\xe9,d\n", 3, "UTF-8 text is expected. Received: byte 0xe9"),
        (b'text,label\n"a\nb\n\xff",d\n', 4, "byte 0xff"),
        (b"text,label\r\na,b\r\n\xff,d\r\n", 3, "byte 0xff"),
        (b"text,label\na,b\n\0,d\n", 3, "NUL byte"),
        ("text,label\na,b\n".encode("utf-16"), 1, "NUL byte"),
    ],
)
def test_broken_csv_names_file_and_line(tmp_path, content, line, message):
    found = error(written(tmp_path / "a.csv", content))
    assert f"a.csv, line {line}:" in found
    assert message in found


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b'{"text": "b"', "one JSON object a line is expected"),
        (b"nonsense", "Received: 'nonsense'"),
        (b'["a", "b"]', 'one JSON object a line is expected. Received: \'["a"'),
        (b"3", "one JSON object a line is expected"),
        (b"null", "one JSON object a line is expected"),
        (b"[" * 100_000, "one JSON object a line is expected"),
        (b'{"text": "\xff", "label": 1}', "byte 0xff"),
        (b'{"text": "\0", "label": 1}', "NUL byte"),
        (b'{"text": "\\ud800", "label": 1}', "half of a surrogate pair"),
        (b'{"text": "b", "label": NaN}', "a label is expected"),
        (b'{"text": "b", "label": {}}', "a label (a name or a whole number) is expected"),
    ],
)
def test_broken_json_names_file_and_line(tmp_path, bad, message):
    good = b'{"text": "a", "label": "x"}\n'
    found = error(written(tmp_path / "a.jsonl", good + b"\n" + good + bad + b"\n" + good))
    assert "a.jsonl, line 4:" in found
    assert message in found


def test_a_json_array_over_lines(tmp_path):
    content = b'[\n{"text": "a", "label": "x"}\n]\n'
    assert "line 1: one JSON object a line" in error(written(tmp_path / "a.json", content))


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_broken_packing(tmp_path, pack):
    extension = "gz" if pack is gzip.compress else "xz"
    kind = "gzip" if extension == "gz" else "xz"
    rows = b"text,label\n" + b"".join(b"row %d,%d\n" % (i, i * i) for i in range(50_000))
    packed = pack(rows)
    for content in (packed[:-20], packed[: len(packed) // 2], rows, b"\x00" * 50):
        found = error(written(tmp_path / f"a.csv.{extension}", content))
        assert f"not a whole {kind} file" in found
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 0xFF
    message = error(written(tmp_path / f"a.csv.{extension}", bytes(damaged)))
    assert f"a.csv.{extension}" in message


def test_broken_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"] * 9, "label": ["b"] * 9}), path)
    whole = path.read_bytes()
    for content in (whole[:-9], b"text,label\na,b\n", whole[:20] + b"\xff" * 30 + whole[50:]):
        assert "a.parquet" in error(written(path, content))


def test_texts_longer_than_the_limit_of_python(tmp_path):
    text = "long " * 100_000
    source = open_source(written(tmp_path / "a.csv", f"text,label\n{text},a\n".encode()), FIELDS)
    assert next(source.chunks()) == {"text": [text], "label": ["a"]}


def test_a_line_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "LONGEST_LINE", 1 << 20)
    content = b"text,label\na,b\n" + b"x" * (3 << 20)
    assert "a.csv, line 3: a line of more than 1 MiB" in error(written(tmp_path / "a.csv", content))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("block", [1, 2, 3, 7, 64])
def test_lines_do_not_depend_on_the_blocks(tmp_path, monkeypatch, block, end):
    monkeypatch.setattr(streams, "BLOCK", block)
    lines = [f"价{i}\u2028\x0b\x85" + end for i in range(20)] + ["last"]
    path = written(tmp_path / "a", ("\ufeff" + "".join(lines)).encode())
    with streams.open_bytes(str(path)) as stream:
        assert list(streams.text_lines(stream, "a")) == lines


@pytest.mark.parametrize("block", [1, 5, 1000])
def test_line_of_a_broken_byte_does_not_depend_on_the_blocks(tmp_path, monkeypatch, block):
    monkeypatch.setattr(streams, "BLOCK", block)
    path = written(tmp_path / "a.csv", b"text,label\r\na,b\r\n\xe4\xbb\xb7,\xe4\xbb\r\n")
    assert "a.csv, line 3: UTF-8" in error(path)

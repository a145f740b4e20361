"""CoNLL files: sentences of tokens, whatever stands between token and tag."""

import gzip
import lzma
import tracemalloc

import pytest
import tensorflow as tf

from kerasft._core.errors import InputError
from kerasft.data import open_source

FIELDS = {"tokens": "texts", "tags": "texts"}
EXPECTED = {
    "tokens": [("Ann", "is", "in", "Oslo"), ("#", "1"), ("好",)],
    "tags": [("B-PER", "O", "O", "B-LOC"), ("O", "O"), ("O",)],
}
TWO = "Ann B-PER\nis O\nin O\nOslo B-LOC\n\n# O\n1 O\n\n好 O\n"
FOUR = TWO.replace(" ", "\tX\tY\t")


def read(path, content, columns=None, fields=FIELDS):
    """The rows of a file with this content, as one chunk."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    chunks = list(open_source(path, fields, columns).chunks())
    return {field: sum((chunk[field] for chunk in chunks), []) for field in fields}


def error(path, content, columns=None):
    with pytest.raises(InputError) as caught:
        read(path, content, columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        TWO,
        TWO.replace(" ", "   "),
        TWO.replace(" ", "\t"),
        TWO.replace("\n", "\r\n"),
        TWO.replace("\n\n", "\n \t\n\n\n"),
        TWO.rstrip("\n"),
        "\ufeff-DOCSTART- O\n\n" + TWO + "\n-DOCSTART- O\n\n",
        "# id 12\n" + TWO.replace("\n\n", "\n\n# text = Ann and so on\n# sent_id = 5\n"),
        FOUR,
        FOUR.replace("\t", " "),
    ],
)
@pytest.mark.parametrize("name", ["a.conll", "a.bio", "a.iob", "a.iob2", "A.CONLL"])
def test_every_way_to_write_it(tmp_path, content, name):
    assert read(tmp_path / name, content) == EXPECTED


@pytest.mark.parametrize(
    ("name", "pack"), [("a.conll.gz", gzip.compress), ("a.bio.xz", lzma.compress)]
)
def test_packed(tmp_path, name, pack):
    assert read(tmp_path / name, pack(TWO.encode())) == EXPECTED


def test_any_path_that_gfile_opens():
    with tf.io.gfile.GFile("ram://kerasft-conll/a.conll", "w") as file:
        file.write(TWO)
    assert list(open_source("ram://kerasft-conll/a.conll", FIELDS).chunks()) == [EXPECTED]


def test_columns_by_number(tmp_path):
    content = "Ann NNP B-NP B-PER\nruns VBZ B-VP O\n"
    for number in ("1", "-3"):
        found = read(tmp_path / "a.conll", content, {"tags": number})
        assert found == {"tokens": [("Ann", "runs")], "tags": [("NNP", "VBZ")]}
    found = read(tmp_path / "a.conll", content, {"tokens": "1", "tags": "2"})
    assert found == {"tokens": [("NNP", "VBZ")], "tags": [("B-NP", "B-VP")]}


CONLLU = """# sent_id = 1
# text = Vámonos al mar
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\tP\t_\t1\tobj\t_\t_
2.1\tempty\t_\t_\t_\t_\t_\t_\t_\t_
3\tal mar\tmar\tNOUN\t_\t_\t1\tobl\t_\t_

1\t#\t#\tSYM\t_\t_\t0\troot\t_\t_
"""


def test_conllu(tmp_path):
    found = read(tmp_path / "a.conllu", CONLLU)
    assert found["tokens"] == [("Vamos", "nos", "al mar"), ("#",)]
    assert found["tags"] == [("VERB", "PRON", "NOUN"), ("SYM",)]
    found = read(tmp_path / "a.conllu", CONLLU, {"tags": "deprel", "tokens": "lemma"})
    assert found["tokens"][0] == ("ir", "nosotros", "mar")
    assert found["tags"][0] == ("root", "obj", "obl")


@pytest.mark.parametrize(
    ("content", "columns", "line", "message"),
    [
        ("a O\nb\n", None, 2, "2 columns are expected, apart by tabs or spaces. Received: 1"),
        ("a O\n\n\nb O\nc\tO\tO\n", None, 5, "2 columns are expected"),
        ("a X O\nb O\n", None, 2, "3 columns are expected"),
        ("a\nb\n", None, 1, "2 columns are expected"),
        ("a O\nb O\n", {"tags": "2"}, 1, "3 columns are expected"),
        ("a O\nb O\n", {"tags": "-3"}, 1, "3 columns are expected"),
        ("a O\n\n\xff O\n".encode("latin-1"), None, 3, "UTF-8"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, content, columns, line, message):
    found = error(tmp_path / "a.conll", content, columns)
    assert f"a.conll, line {line}: {message}" in found


def test_a_wrong_line_of_conllu_is_named(tmp_path):
    found = error(tmp_path / "a.conllu", CONLLU.replace("\tobl\t_\t_", ""))
    assert "a.conllu, line 7: 10 columns are expected" in found and "Received: 7" in found


def test_a_token_that_is_white_space_is_named_by_its_sentence(tmp_path):
    found = error(tmp_path / "a.conll", "a O\n\nb O\n\xa0 O\n")
    assert "a.conll, line 3: in column 'tokens' a text is expected, but it is empty" in found


def test_columns_that_are_not_there(tmp_path):
    found = error(tmp_path / "a.conll", TWO, {"tags": "ner"})
    assert "no column 'ner'; it has: 'tokens', 'tags', and each column by its number" in found
    assert "no rows" in error(tmp_path / "a.conll", "\n\n-DOCSTART- O\n\n")


def test_one_column_is_enough_for_tokens(tmp_path):
    found = read(tmp_path / "a.conll", "a\nb\n\nc\n", fields={"tokens": "texts"})
    assert found == {"tokens": [("a", "b"), ("c",)]}


def test_a_large_file_is_streamed(tmp_path):
    path, count = tmp_path / "a.conll", 1_500
    fields = {"text": "text", "spans": "spans", "words": "words"}
    path.write_text("".join("Ann B-PER\n" + "word O\n" * 40 + "\n" for _ in range(count)))
    source = open_source(path, fields)
    tracemalloc.start()
    try:
        read = sum(len(chunk["text"]) for chunk in source.chunks(50))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert read == count
    assert peak < 3e6, f"{peak / 1e6:.1f} MB for a file of {path.stat().st_size / 1e6:.1f} MB"

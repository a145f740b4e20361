"""Labels of a source: their order, and those that are not known."""

import pytest

from kerasft._core.errors import InputError
from kerasft.data import (
    check_labels,
    chunk_labels,
    discover_labels,
    label_field,
    open_source,
    order_labels,
)


def labelled(*labels, kind="label"):
    rows = [{"text": f"t{i}", "label": label} for i, label in enumerate(labels)]
    return open_source(rows, {"text": "text", "label": kind})


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["spam", "ham", "spam"], ("ham", "spam")),
        ([10, 9, -1, 10], ("-1", "9", "10")),
        (["10", "9", "09"], ("09", "9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["b", "B", "中", "é", "a"], ("B", "a", "b", "é", "中")),
        ([1.0, 0.0], ("0", "1")),
        ([True, False], ("False", "True")),
    ],
)
def test_order_does_not_depend_on_the_rows(labels, order):
    assert discover_labels(labelled(*labels)) == order
    assert discover_labels(labelled(*reversed(labels))) == order
    assert order_labels(order[::-1]) == order


def test_labels_of_several():
    source = labelled(["b", "a"], [], ["c"], kind="labels")
    assert discover_labels(source) == ("a", "b", "c")
    check_labels(source, ("a", "b", "c"))
    with pytest.raises(InputError, match=r"the list, row 1: .*Received: 'b'"):
        check_labels(source, ("a", "c"))


def test_one_class_only():
    with pytest.raises(InputError, match="at least two labels. Received: one only, 'spam'"):
        discover_labels(labelled("spam", "spam "))
    with pytest.raises(InputError, match="at least one label. Received: none"):
        discover_labels(labelled([], [], kind="labels"))
    assert discover_labels(labelled([], ["a"], kind="labels")) == ("a",)


def test_an_unknown_label_names_file_line_and_the_nearest(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,label\na,ham\n"b\nb",spam\nc,spm\nd,eggs\n')
    source = open_source(path, {"text": "text", "label": "label"})
    with pytest.raises(InputError) as caught:
        check_labels(source, ("ham", "spam"))
    message = str(caught.value)
    assert f"{path}, line 5: the label must be one of: ham, spam. Received: 'spm'." in message
    assert message.endswith("Did you mean 'spam'?")
    check_labels(source, ("ham", "spam", "spm", "eggs"))


def test_many_known_labels_stay_one_short_line():
    with pytest.raises(InputError) as caught:
        check_labels(labelled("x"), [str(i) for i in range(1000)])
    assert "18, 19, ..." in str(caught.value) and len(str(caught.value)) < 200


def test_without_a_field_of_labels():
    source = open_source([{"text": "a", "score": 1}], {"text": "text", "score": "number"})
    assert label_field(source) is None
    with pytest.raises(InputError, match="without a field of labels"):
        discover_labels(source)


def spanned(*rows):
    data = [{"text": "abcdef", "spans": list(spans)} for spans in rows]
    return open_source(data, {"text": "text", "spans": "spans"})


def test_labels_of_spans():
    source = spanned([(0, 1, "b"), (2, 3, "a"), (4, 5, "b")], [], [(0, 2, "c")])
    assert label_field(source) == "spans"
    assert [chunk_labels(source, chunk) for chunk in source.chunks()] == [[("a", "b"), (), ("c",)]]
    assert discover_labels(source) == ("a", "b", "c")
    check_labels(source, ("c", "b", "a"))
    with pytest.raises(InputError, match=r"the list, row 3: .* one of: a, b. Received: 'c'"):
        check_labels(source, ("a", "b"))
    assert discover_labels(spanned([], [(0, 1, "x")])) == ("x",)
    with pytest.raises(InputError, match="at least one label. Received: none"):
        discover_labels(spanned([], []))


@pytest.mark.parametrize(
    ("kind", "cell", "labels"),
    [("label", 1, ("1",)), ("labels", ["b", "a"], ("a", "b")), ("number", 1, None)],
)
def test_labels_of_a_chunk(kind, cell, labels):
    source = open_source([{"x": cell}], {"x": kind})
    (chunk,) = source.chunks()
    assert chunk_labels(source, chunk) == (None if labels is None else [labels])

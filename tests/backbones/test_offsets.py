"""Where pieces lie: against a reference in plain Python, and by what has to hold for any text."""

import functools

import pytest
import reference_offsets as reference
from golden_folders import golden_of
from odd_strings import odd_strings

from kerasft._core import stack
from kerasft._core.errors import InputError
from kerasft.backbones import _surgery, characters, offsets
from kerasft.backbones.offsets import pieces, surfaces
from kerasft.backbones.words import Splitting, sign
from kerasft.export.gate import check_saved_model
from kerasft.testing import tiny

stack.ensure()
import tensorflow as tf  # noqa: E402  (after the backend is chosen)

from kerasft.backbones.bpe import ByteMerges  # noqa: E402

GOLDEN = ("xlm-roberta", "albert", "gemma", "mistral", "qwen2")
TINY = ("bert", "distil_bert", "electra", "gpt2", "roberta", "opt", "llama3", "qwen3")
TINY += ("xlm_roberta", "deberta_v3", "f_net", "llama")
VARIANTS = ("bert with accents", "roberta, a space in front", "gpt2 without a byte", "gpt2 NFKC")
NAMES = (*TINY, *VARIANTS, *(f"golden {name}" for name in GOLDEN))
# The three kinds on 2,000 strings each, the others on fewer.
MOST = {"bert": 2000, "gpt2": 2000, "golden xlm-roberta": 2000, "golden qwen2": 600}
# Models that keep spaces give other ids for a text with spaces in front.
DROP_SPACES = ("bert", "distil_bert", "bert with accents", "xlm_roberta", "golden xlm-roberta")


@functools.cache
def tokenizer_of(name):
    if name.startswith("golden "):
        return golden_of(name.removeprefix("golden ")).loaded[1]
    made = tiny.tokenizer(name.split(",")[0].split(" ")[0])
    if name == "bert with accents":
        made.strip_accents = False
    if name == "roberta, a space in front":
        made.add_prefix_space = True
    if name == "gpt2 NFKC":
        made.kerasft_splitting = Splitting(form="NFKC")
    if name == "gpt2 without a byte":
        left = {k: v for k, v in made.vocabulary.items() if k != reference.letters()[0xCC]}
        specials = {sign(i): left[token] for i, token in enumerate(made.unsplittable_tokens)}
        made.kerasft_merges = ByteMerges(left, made.merges, specials)
    return made


def splits_of(splitting):
    text = splitting.patterns[-1]
    if "(?i" not in text:
        return reference.gpt2_split
    return reference.llama3_split if "{1,3}" in text else reference.qwen_split


@functools.cache
def reference_of(name):
    """A function of a text that gives [(id, start, end, word)]."""
    tokenizer = tokenizer_of(name)
    kind, _ = _surgery.piece_maker(tokenizer)
    if kind == "wordpiece":
        how = (tokenizer.get_vocabulary(), tokenizer.lowercase, tokenizer.strip_accents)
        return lambda text: reference.wordpiece(text, *how)
    if kind == "sentencepiece":
        return reference.Sentences(tokenizer.proto).read
    splitting = tokenizer.kerasft_splitting
    pairs = [m for m in tokenizer.merges if not m.startswith("#version")]
    ranks = {tuple(m.split(" ")): rank for rank, m in reversed(list(enumerate(pairs)))}
    return lambda text: reference.byte_pairs(
        text,
        tokenizer.vocabulary,
        ranks,
        splits_of(splitting),
        tokenizer.unsplittable_tokens or (),
        splitting.form,
        tokenizer.add_prefix_space,
        splitting.whole,
    )


def strings_for(name, count, seed=0):
    """Odd strings; without NUL for byte-level BPE, whose text tensorflow-text ends there."""
    texts = odd_strings(count, seed)
    cut = _surgery.piece_maker(tokenizer_of(name))[0] == "bytes"
    return [text.replace("\0", "") for text in texts] if cut else texts


def found_in(name, texts):
    """[(id, start, end, word)] of every text."""
    return listed(vars(pieces(tokenizer_of(name), tf.constant(texts))))


def listed(found):
    columns = [found[key].to_list() for key in ("ids", "start", "end", "word")]
    return [list(zip(*row, strict=True)) for row in zip(*columns, strict=True)]


def differing(name, texts):
    """The texts for which reference and product differ, with both."""
    # XLM-R's ids are SentencePiece's, moved; that they are the tokenizer's is tested by itself.
    first = 1 if _surgery.piece_maker(tokenizer_of(name))[0] == "sentencepiece" else 0
    lost = {tokenizer_of(name).vocabulary[reference.letters()[0xCC]]} if "a byte" in name else ()
    found = []
    for text, got in zip(texts, found_in(name, texts), strict=True):
        wanted = [row[first:] for row in reference_of(name)(text) if row[0] not in lost]
        got = [row[first:] for row in got]
        found += [(text, got, wanted)] if got != wanted else []
    return found


@pytest.mark.parametrize("name", NAMES)
def test_offsets_are_those_of_the_reference(name):
    assert differing(name, strings_for(name, MOST.get(name, 100)))[:3] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_offsets_are_those_of_the_reference_on_many(name):
    assert differing(name, strings_for(name, 10_000, seed=7))[:3] == []


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_the_tokenizers_and_offsets_go_forward(name):
    texts, tokenizer = odd_strings(150, seed=2), tokenizer_of(name)
    found = pieces(tokenizer, tf.constant(texts))
    assert found.ids.to_list() == tokenizer(texts)
    assert {x.dtype for x in vars(found).values()} == {tf.int32}
    for text, rows in zip(texts, listed(vars(found)), strict=True):
        starts = [start for _, start, _, _ in rows]
        words = [word for _, _, _, word in rows if word >= 0]
        assert starts == sorted(starts)
        assert words == sorted(words)
        assert all(0 <= start <= end <= len(text) for _, start, end, _ in rows)
        assert all((start == end) == (word == -1) for _, start, end, word in rows)


@pytest.mark.parametrize("name", DROP_SPACES)
@pytest.mark.parametrize("k", [1, 3])
def test_spaces_in_front_shift_by_their_number(name, k):
    texts = odd_strings(200, seed=3)
    plain = found_in(name, texts)
    shifted = [[(i, s + k, e + k, w) for i, s, e, w in rows] for rows in plain]
    assert found_in(name, [" " * k + text for text in texts]) == shifted


@pytest.mark.parametrize("name", ["gpt2", "golden qwen2", "golden gemma"])
def test_where_spaces_are_kept_words_shift_all_the_same(name):
    # A piece may take the space in front along, so that only the words can be the same.
    texts = [t for t in strings_for(name, 200, seed=4) if t[:1].isalpha() and t[:1].isascii()]
    for plain, moved in zip(
        found_in(name, texts), found_in(name, [f" {t}" for t in texts]), strict=True
    ):
        words = {(s + 1, e + 1, w) for _, s, e, w in plain if w >= 0}
        assert words == {(s, e, w) for _, s, e, w in moved if w >= 0}


# --- what was asked for, case by case -----------------------------------------------------------

CASES = [
    ("bert", "the Cafe\u0301, ok", [(0, 3, 0), (4, 9, 1), (9, 10, 2), (11, 13, 3)]),
    ("bert", "\xad\x01the\x01 a\xadb", [(2, 5, 0), (7, 10, 1)]),
    ("bert", "很 好看", [(0, 1, 0), (2, 3, 1), (3, 4, 2)]),
    ("xlm_roberta", "很好", [(0, 0, -1), (0, 1, 0), (1, 2, 1)]),
    ("xlm_roberta", "  很", [(2, 2, -1), (2, 3, 0)]),
    ("golden xlm-roberta", " \t", []),
    ("golden xlm-roberta", "ｶﾞ\u200d\u200e，", [(0, 0, -1), (0, 4, 0), (4, 4, -1), (4, 5, 1)]),
    ("golden gemma", "\u3000好", [(1, 1, -1)] * 3 + [(1, 2, 0)]),
    ("gpt2", " film\n", [(1, 5, 0), (6, 6, -1)]),
    ("golden qwen2", "e\u0301,", [(0, 2, 0), (2, 3, 1)]),
    ("gpt2", "a<|endoftext|>b", [(0, 1, 0), (1, 14, 1), (14, 15, 2)]),
    ("roberta, a space in front", "film", [(0, 4, 0)]),
]


@pytest.mark.parametrize(("name", "text", "wanted"), CASES)
def test_a_case_by_hand(name, text, wanted):
    merged = [row[1:] for row in found_in(name, [text])[0]]
    if name == "bert":  # its pieces are many; the words are what is asked for
        merged = sorted(set(merged))
    assert merged == wanted


@pytest.mark.parametrize("text", ["👩\u200d💻", "👍🏽", "❤\ufe0f", "क\u094d\u200dष", "ｶﾞ", "ที่"])
@pytest.mark.parametrize("name", ["bert", "gpt2", "golden qwen2", "golden xlm-roberta"])
def test_what_belongs_to_the_character_before(name, text):
    rows = found_in(name, [f"a {text} b"])[0]
    inner = {(s, e) for _, s, e, w in rows if w >= 0 and s not in (0, len(text) + 3)}
    assert inner == {(2, 2 + len(text))}


def test_a_piece_of_several_words_goes_from_the_first_to_the_last():
    # The unknown piece of SentencePiece takes both; so does [UNK] in a script that BERT leaves.
    for name, text in (("golden xlm-roberta", "a 報告"), ("bert", "a カメ")):
        assert found_in(name, [text])[0][-1][1:] == (2, 4, 1)


def test_a_text_with_nul_has_offsets_for_the_pieces_it_has():
    plain, odd = found_in("gpt2", ["a film", "a film\0 the bad"])
    assert plain == odd


def test_no_text_and_one_that_is_no_utf8():
    for name in ("bert", "gpt2", "golden xlm-roberta", "golden qwen2"):
        tokenizer = tokenizer_of(name)
        none = pieces(tokenizer, tf.constant([], tf.string))
        assert none.start.to_list() == none.ids.to_list() == []
        found = pieces(tokenizer, tf.constant([b"the \xff\xe6 film", b"film"]))
        assert found.start.to_list()[1] == [0] * len(found.ids.to_list()[1])


def test_a_tokenizer_that_is_not_in_the_graph_is_refused():
    with pytest.raises(InputError, match=r"Received: ByteTokenizer"):
        import keras_hub

        pieces(keras_hub.tokenizers.ByteTokenizer(), tf.constant(["a"]))


# --- surfaces -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert", "gpt2", "golden xlm-roberta"])
def test_surfaces_are_the_parts_of_the_text(name):
    texts = odd_strings(200, seed=5)
    found = pieces(tokenizer_of(name), tf.constant(texts))
    parts = surfaces(tf.constant(texts), found.start, found.end).to_list()
    rows = found_in(name, texts)
    assert parts == [
        [text[s:e].encode() for _, s, e, _ in row] for text, row in zip(texts, rows, strict=True)
    ]
    dense = surfaces(tf.constant(texts), found.start.to_tensor(-1), found.end.to_tensor(-1))
    width = dense.shape[1]
    assert dense.numpy().tolist() == [row + [b""] * (width - len(row)) for row in parts]


def test_surfaces_outside_of_the_text_are_cut():
    found = surfaces(tf.constant(["很好", ""]), [[1, -1, 5], [0, -1, 2]], [[9, -1, 7], [1, -1, 3]])
    assert found.numpy().tolist() == [["好".encode(), b"", b""], [b"", b"", b""]]


# --- export -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert", "golden qwen2", "golden xlm-roberta"])
def test_a_saved_model_gives_the_same(name, tmp_path):
    module = tf.Module()
    module.tokenizer = tokenizer_of(name)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def tokenize(text):
        found = pieces(module.tokenizer, text)
        rows = {key: value.to_tensor(-1) for key, value in vars(found).items()}
        return rows | {"surface": surfaces(text, rows["start"], rows["end"])}

    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"tokenize": tokenize})
    loaded = tf.saved_model.load(str(tmp_path / "saved")).signatures["tokenize"]
    check_saved_model(str(tmp_path / "saved"), 0)
    texts = tf.constant(odd_strings(100, seed=6))
    wanted = vars(pieces(module.tokenizer, texts))  # outside of any graph
    wanted = wanted | {"surface": surfaces(texts, wanted["start"], wanted["end"])}
    for key, value in loaded(texts).items():
        fill = "" if key == "surface" else -1
        assert value.numpy().tolist() == wanted[key].to_tensor(fill).numpy().tolist()


# --- mutations ----------------------------------------------------------------------------------


def one_too_far(patch):
    spans = characters.Words.spans

    def moved(self, *args):
        start, end, word = spans(self, *args)
        return start, end + 1, word

    patch.setattr(characters.Words, "spans", moved)


def bytes_for_code_points(patch):
    decode = tf.strings.unicode_decode
    patch.setattr(tf.strings, "unicode_decode", lambda text, _: decode(text, "ISO-8859-1"))


def marks_by_themselves(patch):
    patch.setattr(characters, "_EXTENDS", r"\x{200D}")


def one_word_for_han(patch):
    patch.setattr(characters, "_UNSPACED", r"\p{Thai}")


def no_blank_pieces(patch):
    patch.setattr(offsets, "_is_blank", lambda maker, ids: tf.zeros_like(ids, tf.bool))


def no_normal_form(patch):
    sizes = offsets._byte_sizes
    patch.setattr(offsets, "_byte_sizes", lambda chars, white, maker, _: sizes(chars, 0, maker, ""))


def no_cuts(patch):
    cuts = offsets._cuts
    patch.setattr(offsets, "_cuts", lambda c, size, row, begin: cuts(c, size, row[:0], begin[:0]))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (one_too_far, ("bert", "gpt2", "golden xlm-roberta")),
        (bytes_for_code_points, ("gpt2", "golden xlm-roberta")),
        (marks_by_themselves, ("gpt2", "golden xlm-roberta")),
        (one_word_for_han, ("gpt2", "golden xlm-roberta")),
        (no_blank_pieces, ("golden xlm-roberta",)),
        (no_normal_form, ("golden qwen2",)),
        (no_cuts, ("gpt2",)),
    ],
)
def test_a_mutation_is_caught(change, names, monkeypatch):
    texts = {name: strings_for(name, 60) for name in names}
    assert not any(differing(name, texts[name]) for name in names)
    change(monkeypatch)
    assert all(len(differing(name, texts[name])) > 3 for name in names)

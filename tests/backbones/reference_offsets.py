"""Where pieces lie in a text, in plain Python: one character after the other, with `unicodedata`.

It shares no code with kerasft and is written another way: it tokenises by itself (WordPiece and
byte-level BPE; for SentencePiece it asks the library itself), carries for every character of the
normalised text the places that it came from, and walks through the raw text to number the words.
"""

import functools
import re
import unicodedata

import sentencepiece

ZWJ = "\u200d"
UNSPACED = re.compile(
    "[\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufad9"  # Han
    "\U00020000-\U0002fa1f\u3041-\u3096\u309d-\u309f"  # Hiragana
    "\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u32d0-\u32fe\u3300-\u3357\uff66-\uff9d"  # Katakana
    "\u0e01-\u0e3a\u0e40-\u0e5b\u0e81-\u0edf\u1780-\u17f9\u19e0-\u19ff\u1000-\u109f]"  # the others
)


def kind(char):
    return unicodedata.category(char)


def is_white(char):
    return char in "\t\n\v\f\r\x85" or kind(char)[0] == "Z"


def belongs_to_the_one_before(char):
    tags_and_tones = 0x1F3FB <= ord(char) <= 0x1F3FF or 0xE0020 <= ord(char) <= 0xE007F
    return kind(char)[0] == "M" or char in ZWJ + "\uff9e\uff9f" or tags_and_tones


def number_words(text, white, kept, alone=(), cuts=None):
    """The number of each character's word, None for what is in no word.

    `cuts` are the places where a word may begin; without them it is after white space.
    """
    owner, word, attach, fresh, single = [None] * len(text), -1, None, True, False
    for place, char in enumerate(text):
        fresh = fresh or (cuts is not None and place in cuts)
        if place in white:
            fresh, attach = fresh or cuts is None, None
        elif attach is not None and (
            belongs_to_the_one_before(char) or text[place - 1 : place] == ZWJ
        ):
            owner[place] = attach
            fresh = fresh or (place in kept and place in alone)
        elif place in kept:
            own = place in alone or bool(UNSPACED.match(char))
            word += fresh or own or single
            owner[place], attach, fresh, single = word, word, False, own
    return owner


def span(owner, places, blank=False, late=False):
    """(start, end, word) of a piece that covers these places, as `Pieces` counts them."""
    held = [owner[p] for p in places if owner[p] is not None]
    after = [w for w in owner[min(places, default=0) :] if w is not None]
    if late and not held:
        held = after[:1]
    if held and not blank:
        last = len(owner) - owner[::-1].index(held[-1])
        return owner.index(held[0]), last, held[0]
    start = owner.index(after[0]) if after else len(owner)
    return start, start, -1


# --- WordPiece ----------------------------------------------------------------------------------


def wordpiece(text, vocabulary, lowercase, strip_accents):
    """[(id, start, end, word)] by BERT's basic tokenizer and greedy WordPiece."""
    white = {p for p, c in enumerate(text) if c in "\t\n\r" or kind(c)[0] == "Z"}
    clean = [(c, p) for p, c in enumerate(text) if p not in white and c not in "\0\ufffd"]
    clean = [(c, p) for c, p in clean if kind(c)[0] != "C"]
    if strip_accents:
        clean = [(d, p) for c, p in clean for d in unicodedata.normalize("NFD", c)]
        clean = [(c, p) for c, p in clean if kind(c) != "Mn"]
    if lowercase:
        clean = [(d, p) for c, p in clean for d in c.lower()]
    kept = {p for _, p in clean}
    alone = {p for c, p in clean if _is_sign(c) or _is_ideograph(text[p])}
    groups = []
    for char, place in clean:
        gap = groups and set(range(groups[-1][-1][1], place)) & white
        touch = groups and place != groups[-1][-1][1] and {place, groups[-1][-1][1]} & alone
        if not groups or gap or touch:
            groups.append([])
        groups[-1].append((char, place))
    owner = number_words(text, white, kept, alone)
    ids = {piece: i for i, piece in enumerate(vocabulary)}
    found = [piece for group in groups for piece in _greedy(group, ids)]
    return [(i, *span(owner, places)) for i, places in found]


def _is_sign(char):
    return kind(char)[0] == "P" or (ord(char) < 128 and not char.isalnum() and char.isprintable())


def _is_ideograph(char):
    blocks = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0xF900, 0xFAFF))
    return any(first <= ord(char) <= last for first, last in blocks)


def _greedy(group, ids):
    word, places = "".join(c for c, _ in group), [p for _, p in group]
    found, begin = [], 0
    while begin < len(word) and len(word.encode()) <= 100:
        ends = range(len(word), begin, -1)
        head = "##" if begin else ""
        end = next((e for e in ends if head + word[begin:e] in ids), None)
        if end is None:
            break
        found.append((ids[head + word[begin:end]], places[begin:end]))
        begin = end
    return found if begin == len(word) else [(ids["[UNK]"], places)]


# --- byte-level BPE -----------------------------------------------------------------------------


def byte_pairs(text, vocabulary, merges, split, specials=(), form="", space=False, whole=False):
    """[(id, start, end, word)] of a byte-level BPE.

    `split` is one of the functions below, `space` says that one is put in front.
    """
    signs = melted(text, form)
    if space and signs[:1] and signs[0][0] != " ":
        signs.insert(0, (" ", []))
    for token in specials:
        plain = "".join(c if len(c) == 1 else "\n" for c, _ in signs)
        for hit in reversed(list(re.finditer(re.escape(token), plain))):
            covered = [p for _, places in signs[hit.start() : hit.end()] for p in places]
            signs[hit.start() : hit.end()] = [(token, covered)]
    words = list(_words(signs, split))
    cuts, done = set(), -1
    for word in words:  # one that begins inside of what a character has become begins after it
        new = [p for _, places in word for p in places if p > done]
        cuts |= {min(new)} if new else set()
        done = max([done, *new])
    white = {p for p, c in enumerate(text) if is_white(c)}
    owner = number_words(text, white, range(len(text)), cuts=cuts)
    found = [piece for word in words for piece in _merged(word, vocabulary, merges, whole)]
    return [(i, *span(owner, places, blank=not places)) for i, places in found]


def melted(text, form):
    """The characters of a normal form, each with the places that it came from."""
    if not form:
        return [(c, [p]) for p, c in enumerate(text)]
    whole, made, begin = unicodedata.normalize(form, text), [], 0
    for end in range(1, len(text) + 1):
        left, right = (unicodedata.normalize(form, t) for t in (text[:end], text[end:]))
        if left + right == whole:
            part = unicodedata.normalize(form, text[begin:end])
            made += [(c, list(range(begin, end))) for c in part]
            begin = end
    return made


def _words(signs, split):
    begin = 0
    while begin < len(signs):
        if len(signs[begin][0]) > 1:
            end = begin + 1
        else:
            plain = [c for c, _ in signs]
            stop = next((i for i in range(begin, len(plain)) if len(plain[i]) > 1), len(plain))
            end = begin + split("".join(plain[begin:stop]))
        yield signs[begin:end]
        begin = end


def _merged(word, vocabulary, merges, whole):
    if len(word[0][0]) > 1:
        return [(vocabulary[word[0][0]], word[0][1])]
    parts = [(letters()[b], places) for c, places in word for b in c.encode()]
    joined = "".join(piece for piece, _ in parts)
    if whole and joined in vocabulary:
        return [(vocabulary[joined], [p for _, places in parts for p in places])]
    while True:
        ranks = [merges.get((a[0], b[0]), 1e9) for a, b in zip(parts, parts[1:])]
        if min(ranks, default=1e9) == 1e9:
            return [(vocabulary[piece], places) for piece, places in parts]
        at = ranks.index(min(ranks))
        (a, some), (b, others) = parts[at : at + 2]
        parts[at : at + 2] = [(a + b, some + others)]


@functools.cache
def letters():
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(hidden)}


def gpt2_split(rest):
    """The length of the first match of GPT-2's pattern."""
    for ending in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"):
        if rest.startswith(ending):
            return len(ending)
    skip = int(rest[0] == " " and len(rest) > 1 and not is_white(rest[1]))
    if not is_white(rest[skip]):
        return skip + run(rest[skip:], classed(rest[skip]))
    return blanks(rest)


def llama3_split(rest, digits=3):
    """The length of the first match of Llama 3's pattern, or Qwen's with one digit."""
    for ending in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"):
        if rest.lower().startswith(ending):
            return len(ending)
    skip = int(classed(rest[0]) not in "LN" and rest[0] not in "\r\n")
    if classed(rest[skip : skip + 1]) == "L":
        return skip + run(rest[skip:], "L")
    if classed(rest[0]) == "N":
        return min(run(rest, "N"), digits)
    skip = int(rest[0] == " ")
    if classed(rest[skip : skip + 1]) == "O":
        size = skip + run(rest[skip:], "O")
        return size + len(rest[size:]) - len(rest[size:].lstrip("\r\n"))
    size = run(rest, "Z")
    last = max(rest[:size].rfind("\r"), rest[:size].rfind("\n"))
    return last + 1 if last >= 0 else blanks(rest)


def qwen_split(rest):
    """The same with one digit."""
    return llama3_split(rest, 1)


def classed(char):
    """L, N, Z or O for letters, numbers, white space and others; "" for none."""
    if not char or is_white(char):
        return "Z" if char else "-"
    return kind(char)[0] if kind(char)[0] in "LN" else "O"


def run(rest, wanted):
    return next((i for i, c in enumerate(rest) if classed(c) != wanted), len(rest))


def blanks(rest):
    size = run(rest, "Z")
    return size if size == len(rest) or size == 1 else size - 1


# --- SentencePiece ------------------------------------------------------------------------------


class Sentences:
    """A SentencePiece model, asked by its own library."""

    def __init__(self, proto):
        self.model = sentencepiece.SentencePieceProcessor()
        self.model.LoadFromSerializedProto(proto)
        self.leaves_nothing = functools.cache(self._leaves_nothing)

    def _leaves_nothing(self, char):
        return all(piece.strip("▁") == "" for piece, _, _, _ in self.pieces(char))

    def pieces(self, text):
        """(piece, its id, first place, one after its last), in code points."""
        if sentencepiece.__version__ < "0.2.2":  # it counts code points there
            found = self.model.encode(text, out_type="immutable_proto").pieces
            return [(p.piece, p.id, p.begin, p.end) for p in found]
        data = text.encode()
        found = self.model.encode(text, return_type="proto").pieces
        code = [len(data[:b].decode(errors="ignore")) for b in range(len(data) + 1)]
        return [(p.piece, p.id, code[p.begin], code[p.end]) for p in found]

    def read(self, text):
        """[(id, start, end, word)]."""
        white = {p for p, c in enumerate(text) if is_white(c)}
        kept = {p for p, c in enumerate(text) if not self.leaves_nothing(c)}
        owner, found = number_words(text, white, kept - white), []
        for piece, index, begin, end in self.pieces(text):
            places = range(begin, min(max(end, begin + 1), len(text)))
            blank, late = piece.strip("▁") == "", piece.startswith("▁")
            if late and not blank and begin < len(text):
                # Its first sign may be one that has become several: that lies after the blank.
                places = range(begin, max(end, begin + 1))
            if blank and end > begin:  # the next word is behind its own signs
                after = [w for w in owner[end:] if w is not None]
                place = owner.index(after[0]) if after else len(text)
                found.append((index, place, place, -1))
                continue
            start = places if len(places) else range(len(text), len(text))
            found.append((index, *span(owner, start, blank, late)))
        return found

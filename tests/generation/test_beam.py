"""Beam search against every possible text, and against its own rules worked out in Python."""

import itertools

import numpy as np
import pytest
from toys import log_softmax, logits_of, padded, rows_of, toy

from kerasft._core.errors import InputError
from kerasft.generation import beam, beam_search, detokenizer, generate
from kerasft.testing import tiny

PROMPTS = [[3, 1, 4, 1], [2], [0, 2]]
SMALL = 5


def run(prompts=PROMPTS, vocabulary=SMALL, **options):
    return beam_search(toy(vocabulary), *padded(prompts), **options)


def total(prompt, tokens):
    text, score = list(prompt), 0.0
    for token in tokens:
        score += log_softmax(logits_of(text, SMALL))[token]
        text.append(token)
    return score


def every_text(most, ends):
    """All texts of `most` tokens, and shorter ones that close with an end token."""
    for size in range(1, most + 1):
        for text in itertools.product(range(SMALL), repeat=size):
            if not set(text[:-1]) & set(ends) and (size == most or text[-1] in ends):
                yield text


def best_of_all(prompt, most, ends, penalty):
    texts = every_text(most, ends)
    scored = [(total(prompt, text) / len(text) ** penalty, text) for text in texts]
    score, text = max(scored)
    return [t for t in text if t not in ends], score


@pytest.mark.parametrize("ends", [(), (1,), (0, 3)])
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_it_is_the_best_of_all_texts(ends, penalty):
    """With a beam for every text of two tokens, nothing is overlooked in three steps."""
    found = run(max_new_tokens=3, beams=25, length_penalty=penalty, end_ids=ends)
    expected = [best_of_all(p, 3, ends, penalty) for p in PROMPTS]
    assert rows_of(found) == [text for text, _ in expected]
    np.testing.assert_allclose(found["scores"], [s for _, s in expected], rtol=1e-4)


def test_the_length_penalty_matters():
    texts = [
        rows_of(run(max_new_tokens=3, beams=25, length_penalty=p, end_ids=(1,))) for p in (0.0, 3.0)
    ]
    assert texts[0] != texts[1]


def transformers(prompt, most, beams, ends, penalty):
    """Transformers' rules for one prompt, in plain Python."""
    running, finished = [(0.0, [])], []
    for step in range(1, most + 1):
        grown = [
            (score + log_softmax(logits_of([*prompt, *text], SMALL))[token], [*text, token])
            for score, text in running
            for token in range(SMALL)
        ]
        grown = sorted(grown, key=lambda x: -x[0])[: max(2, 1 + len(ends)) * beams]
        closed = [text[-1] in ends or step == most for _, text in grown]
        finished += [
            (s / step**penalty, t)
            for (s, t), end in zip(grown[:beams], closed, strict=False)
            if end
        ]
        finished = sorted(finished, key=lambda x: -x[0])[:beams]
        running = [x for x, end in zip(grown, closed, strict=True) if not end][:beams]
        if not running:
            break
        if len(finished) == beams and running[0][0] / step**penalty <= finished[-1][0]:
            break
    score, text = finished[0]
    return [t for t in text if t not in ends], score


@pytest.mark.parametrize(
    ("beams", "ends", "penalty"),
    [(2, (1,), 1.0), (3, (0, 3), 1.0), (3, (), 1.0), (4, (1,), 0.0), (3, (4,), 2.0)],
)
def test_the_rules_are_transformers(beams, ends, penalty):
    prompts = [*PROMPTS, [1, 1, 1], [4, 2, 4], [0]]
    options = {"beams": beams, "end_ids": ends, "length_penalty": penalty}
    found = run(prompts, max_new_tokens=8, **options)
    expected = [transformers(p, 8, beams, ends, penalty) for p in prompts]
    assert rows_of(found) == [text for text, _ in expected]
    np.testing.assert_allclose(found["scores"], [s for _, s in expected], rtol=1e-4)


def test_the_cache_follows_its_beam(monkeypatch):
    options = {"max_new_tokens": 8, "beams": 3}
    right = rows_of(run(**options))
    read = beam.Search._read
    same = np.repeat(np.arange(3, dtype=np.int32)[None], 3, axis=0)
    monkeypatch.setattr(beam.Search, "_read", lambda self, state, parent: read(self, state, same))
    assert rows_of(run(**options)) != right


def test_one_beam_is_greedy():
    options = {"max_new_tokens": 8, "end_ids": (1,)}
    found, greedy = run(beams=1, **options), generate(toy(SMALL), *padded(PROMPTS), **options)
    assert rows_of(found) == rows_of(greedy)
    length = greedy["lengths"].numpy() + greedy["ended"].numpy()
    np.testing.assert_allclose(found["scores"], greedy["scores"] / length, rtol=1e-6)
    assert rows_of(run(beams=3, **options)) != rows_of(greedy)


def test_a_row_alone_and_with_its_own_length():
    most = np.array([7, 2, 0], np.int32)
    found = run(max_new_tokens=most, beams=3, end_ids=(1,))
    assert found["lengths"][2] == 0 and found["scores"][2] == 0
    for i, prompt in enumerate(PROMPTS):
        alone = run([prompt], max_new_tokens=int(most[i]), beams=3, end_ids=(1,))
        assert rows_of(alone) == [rows_of(found)[i]]
        np.testing.assert_allclose(alone["scores"][0], found["scores"][i], rtol=1e-5)
    again = run(max_new_tokens=most, beams=3, end_ids=(1,))
    assert rows_of(again) == rows_of(found)


def test_the_text_comes_with_it():
    tokenizer = tiny.tokenizer("gpt2")
    model = toy(tokenizer.vocabulary_size())
    more = {"max_new_tokens": 4, "detokenize": detokenizer(tokenizer), "beams": 2}
    found = beam_search(model, *padded([[1, 2]]), **more)
    said = tokenizer.detokenize(found["token_ids"].numpy().tolist())[0]
    assert found["text"].numpy()[0].decode().replace("\ufffd", "") == said.replace("\ufffd", "")


def test_a_number_of_beams_is_asked_for():
    with pytest.raises(InputError, match="`beams` must be a whole number, at least 1"):
        run(max_new_tokens=1, beams=0)

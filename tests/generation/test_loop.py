"""The loop itself, on small toys whose every answer can be worked out in Python."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from toys import log_softmax, logits_of, padded, rows_of, scripted, toy

from kerasft._core.errors import InputError
from kerasft.generation import detokenizer, generate
from kerasft.testing import tiny

PROMPTS = [[3, 1, 4, 1, 5], [2], [6, 5, 3]]


def greedy(prompt, most, ends=(), penalty=1.0, vocabulary=7):
    """(new tokens, sum of log-probabilities, whether it ended), in Python."""
    text, score = list(prompt), 0.0
    for _ in range(most):
        plain = logits_of(text, vocabulary)
        row = plain.copy()
        for i in set(text):
            row[i] = row[i] / penalty if row[i] > 0 else row[i] * penalty
        best = int(np.argmax(row))
        score += log_softmax(plain)[best]
        if best in ends:
            return text[len(prompt) :], score, True
        text.append(best)
    return text[len(prompt) :], score, False


def check(found, expected):
    assert rows_of(found) == [tokens for tokens, _, _ in expected]
    np.testing.assert_allclose(found["scores"], [s for _, s, _ in expected], rtol=1e-4, atol=1e-4)
    assert found["ended"].numpy().tolist() == [ended for _, _, ended in expected]


def run(model=None, prompts=PROMPTS, **options):
    return generate(model or toy(), *padded(prompts), **({"max_new_tokens": 9} | options))


def test_greedy_is_pythons():
    check(run(), [greedy(p, 9) for p in PROMPTS])
    wrong = replace(toy(), hidden=lambda ids, cache, i: toy().hidden(ids, cache, i + 1))
    assert rows_of(run(wrong)) != rows_of(run())


def test_every_row_has_its_own_length():
    most = np.array([2, 0, 7], np.int32)
    check(run(max_new_tokens=most), [greedy(p, n) for p, n in zip(PROMPTS, most, strict=True)])
    assert run(max_new_tokens=0)["token_ids"].shape == (3, 0)


@pytest.mark.parametrize("ends", [(0,), (4, 2), (0, 1, 2, 3, 4, 5, 6)])
def test_end_tokens(ends):
    expected = [greedy(p, 9, ends) for p in PROMPTS]
    assert any(ended for *_, ended in expected)
    check(run(end_ids=ends), expected)
    assert rows_of(run()) != rows_of(run(end_ids=ends))


def test_the_loop_ends_with_the_last_row():
    """What is read after the prompt: one place less than the longest row writes."""
    read, model = [], toy()

    def hidden(ids, cache, index):
        read.append(int(index))
        return model.hidden(ids, cache, index)

    found = run(replace(model, hidden=hidden), end_ids=(4, 2))
    steps = found["lengths"].numpy() + found["ended"].numpy()
    last = max(len(p) + n for p, n in zip(PROMPTS, steps, strict=True))
    assert read == [0, *range(1, last - 1)]


def test_never_past_the_last_position():
    found = run(toy(limit=7))
    assert found["lengths"].numpy().tolist() == [2, 6, 4]
    check(found, [greedy(p, 7 - len(p)) for p in PROMPTS])
    found = run(toy(limit=3))  # a prompt that is itself too long gets nothing, the others go on
    assert found["lengths"].numpy().tolist() == [0, 2, 0]


def test_repetition_penalty():
    by = np.array([1.0, 1.8, 3.0], np.float32)
    expected = [greedy(p, 9, penalty=n) for p, n in zip(PROMPTS, by, strict=True)]
    check(run(repetition_penalty=by), expected)
    assert rows_of(run(repetition_penalty=by))[1:] != rows_of(run())[1:]


def test_padding_is_not_seen_before():
    """Token 0 pads the short rows; a penalty must not take it for a part of them."""
    alone = [rows_of(run(prompts=[p], repetition_penalty=3.0))[0] for p in PROMPTS]
    assert rows_of(run(repetition_penalty=3.0)) == alone


def test_a_row_does_not_depend_on_the_others():
    options = {
        "temperature": np.array([1.0, 0.0, 0.7], np.float32),
        "top_k": np.array([0, 3, 4], np.int32),
        "top_p": np.array([0.9, 1.0, 0.8], np.float32),
        "seed": np.array([7, 8, 9], np.int32),
        "max_new_tokens": np.array([9, 3, 6], np.int32),
    }
    together = rows_of(run(**options, end_ids=(4,)))
    for i, prompt in enumerate(PROMPTS):
        mine = {name: value[i : i + 1] for name, value in options.items()}
        assert rows_of(run(prompts=[prompt], **mine, end_ids=(4,))) == [together[i]]
        assert rows_of(run(prompts=[prompt] * 2, **mine, end_ids=(4,))) == [together[i]] * 2
    other = options | {"seed": options["seed"] + 1}
    changed = rows_of(run(**other))
    assert changed[0] != rows_of(run(**options))[0] and changed[1] == rows_of(run(**options))[1]


def test_steps_differ():
    """A script of equal logits: every step draws anew."""
    flat = replace(scripted([0] * 40, 5), logits=lambda places: tf.zeros([tf.size(places), 5]))
    drawn = rows_of(run(flat, prompts=[[1]], max_new_tokens=40, temperature=1.0, seed=3))[0]
    assert set(drawn) == set(range(5))


def test_an_empty_prompt_is_one_pad():
    ids, mask = padded([[2], []], pad=6)
    found = generate(toy(), ids, mask, max_new_tokens=4, pad=6)
    check(found, [greedy([2], 4), greedy([6], 4)])


# --- text -----------------------------------------------------------------------------------------


def said(text, stop=(), row=1, **options):
    """What a toy that says the text makes of it; the first row's prompt is longer."""
    tokenizer = tiny.tokenizer("gpt2")
    script = tokenizer([text])[0]
    model = scripted([0, *script] if row else script, tokenizer.vocabulary_size())
    options = {"max_new_tokens": len(script), "detokenize": detokenizer(tokenizer)} | options
    prompts = [[1], [1, 1]] if row else [[1]]
    found = generate(model, *padded(prompts), stop=stop, **options)
    return found["text"].numpy()[row].decode(), found["ended"].numpy()[row], len(script)


@pytest.mark.parametrize(
    "stop",
    [["film"], [" good"], ["!\n"], ["好看"], ["e"], ["x.*y", "."], ["wa", "s g"], ["no", "\\E"]],
)
def test_stop_strings(stop):
    text = "the film was good!\n很好看. you"
    places = [text.find(s) for s in stop if s in text]
    found, ended, _ = said(text, stop)
    assert found == (text[: min(places)] if places else text)
    assert ended == bool(places)


def test_a_stop_string_ends_the_row():
    tokenizer = tiny.tokenizer("gpt2")
    script = tokenizer(["the film was good"])[0]
    model = scripted(script, tokenizer.vocabulary_size())
    more = {"max_new_tokens": len(script), "detokenize": detokenizer(tokenizer)}
    found = generate(model, *padded([[1]]), stop=["il"], **more)
    length = int(found["lengths"][0])
    assert length < len(script) and found["ended"][0]
    upto = tokenizer.detokenize(found["token_ids"][0, :length])
    assert upto.startswith("the fil") and found["text"][0] == b"the f"


def test_special_tokens_leave_no_text_and_end_no_stop_string():
    tokenizer = tiny.tokenizer("gpt2")
    words = tokenizer(["the fi", "lm was"])
    script = [*words[0], 0, 0, *words[1]]  # 0 is <|endoftext|>
    model = scripted(script, tokenizer.vocabulary_size())
    more = {"max_new_tokens": len(script), "detokenize": detokenizer(tokenizer, drop=[0])}
    assert generate(model, *padded([[1]]), **more)["text"][0] == b"the film was"
    assert generate(model, *padded([[1]]), stop=["ilm"], **more)["text"][0] == b"the f"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "`temperature` must be at least 0"),
        ({"top_p": 1.5}, "`top_p` must be"),
        ({"top_k": -1}, "`top_k` must be"),
        ({"repetition_penalty": 0.0}, "`repetition_penalty` must be more than 0"),
        ({"max_new_tokens": -1}, "`max_new_tokens` must be"),
        ({"end_ids": (7,)}, "ids from 0 to 6. Received: 7"),
        ({"stop": ["a"]}, "`stop` needs `detokenize`"),
        ({"stop": [""], "detokenize": str}, "not empty"),
        ({"stop": "ab", "detokenize": str}, r"Write \['...'\]"),
    ],
)
def test_wrong_parameters(options, message):
    with pytest.raises(InputError, match=message):
        run(**options)

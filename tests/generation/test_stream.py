"""A stream says, in parts that never change, what `generate` says at once."""

from functools import cache

import numpy as np
import pytest
from toys import padded, scripted, toy

from kerasft._core.errors import InputError
from kerasft.generation import detokenizer, generate, step_model, stream
from kerasft.generation.text import Text
from kerasft.testing import tiny

TEXT = "the film 很好看 👩\u200d💻, was good"


@cache
def tokenizer():
    return tiny.tokenizer("gpt2")


@cache
def detokenize():
    return detokenizer(tokenizer())


def both(model, prompt=(1,), **options):
    """(parts of the stream, text of generate)."""
    options = {"max_new_tokens": 80, "detokenize": detokenize()} | options
    parts = list(stream(model, *padded([prompt]), **options))
    return parts, generate(model, *padded([prompt]), **options)["text"].numpy()[0].decode()


def speaker(text=TEXT):
    script = tokenizer()([text])[0]
    return scripted(script, tokenizer().vocabulary_size()), len(script)


@pytest.fixture(scope="module")
def model():
    return speaker()[0]


def test_whole_characters(model):
    count = speaker()[1]
    parts, text = both(model, max_new_tokens=count)
    assert "".join(parts) == text == TEXT
    assert len(parts) > 10 and "" not in parts and "\ufffd" not in "".join(parts)
    assert count > len(parts)  # some characters took several tokens
    assert len(model.compiled) == 1
    cut, text = both(model, max_new_tokens=len(tokenizer()(["the film 很"])[0]) - 1)
    assert "".join(cut) == text == "the film \ufffd"  # the text itself ends within a character


def test_held_back_or_wrong(model, monkeypatch):
    """Without holding back, half a character would go out."""
    monkeypatch.setattr(Text, "settled", lambda self, text: text)
    parts, text = both(model, max_new_tokens=speaker()[1])
    assert "".join(parts) != text


@pytest.mark.parametrize("stop", [["wa"], ["看 👩", "film!"], ["💻"]])
def test_stop_strings(model, stop):
    parts, text = both(model, stop=stop)
    place = min(TEXT.find(s) for s in stop if s in TEXT)
    assert "".join(parts) == text == TEXT[:place]


def test_noise():
    """Random bytes: broken characters everywhere."""
    noisy = toy(tokenizer().vocabulary_size())
    for seed in range(2):
        parts, text = both(noisy, (5, 6), temperature=1.0, seed=seed, max_new_tokens=24)
        assert "".join(parts) == text and "\ufffd" in text


def test_one_trace_for_all_lengths():
    """A real decoder: prompts of other lengths and other parameters trace nothing anew."""
    backbone = tiny.backbone("gpt2")
    cached = step_model(backbone)
    for prompt in ((5, 6, 7), (9,), (8, 8, 8, 8, 8)):
        parts, text = both(cached, prompt, max_new_tokens=6, temperature=0.8, top_k=20, seed=4)
        assert "".join(parts) == text
    begin, advance = next(iter(cached.compiled.values()))
    assert begin.experimental_get_tracing_count() == advance.experimental_get_tracing_count() == 1


def test_one_prompt():
    model = toy(tokenizer().vocabulary_size())
    ids = np.ones((2, 3), np.int32)
    with pytest.raises(InputError, match="continues one prompt. Received: 2 prompts"):
        stream(model, ids, ids, max_new_tokens=3, detokenize=detokenize())
    with pytest.raises(InputError, match="`temperature` must be at least 0"):
        stream(model, ids[:1], ids[:1], max_new_tokens=3, detokenize=detokenize(), temperature=-1)
    assert list(stream(model, ids[:1], ids[:1], max_new_tokens=0, detokenize=detokenize())) == []

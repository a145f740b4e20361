"""Causal language models: what is learned, packed rows, likelihood, answers, wrong input."""

import functools
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from kerasft import InputError
from kerasft.data import Batch, encode_rows, encoder, feed_of
from kerasft.preprocessing import chat, ragged_ids
from kerasft.tasks import CausalLM, TextClassification, TextToText, _language, _writers
from kerasft.testing import _rig, tiny
from kerasft.training.fitted import Fitted

CHAT = (("system", "the"), ("user", "you call"), ("assistant", "good"), ("user", "a"))
CHATS = {"messages": [(*CHAT, ("assistant", "the film")), (("user", "now"), ("assistant", "bad"))]}
PAIRS = {"prompt": ["the film", "you", ""], "completion": ["was good", "call now", "bad"]}
KINDS = ["gpt2", "llama", "llama3", "gemma"]


tokenizer_of = functools.cache(tiny.tokenizer)


@functools.cache
def encode_of(task, family):
    return encoder(task, tokenizer_of(family), task.reads)


def encoded(task, family, fields):
    return encode_of(task, family)(fields)


def said(tokenizer, ids):
    """Ids as the text of their pieces, special tokens spelled out."""
    return "".join(tokenizer.id_to_token(int(i)) for i in ids if i >= 0)


def plain(tokenizer, text):
    (ids,) = _language.plain_ids(
        tokenizer, _language.writing_of(tokenizer, "none"), tf.constant([text])
    ).to_list()
    return ids


@pytest.mark.parametrize("family", KINDS)
def test_completions_are_learned_and_prompts_are_not(family):
    task, tokenizer = CausalLM(max_length=32), tiny.tokenizer(family)
    features = encoded(task, family, PAIRS)
    ids, targets = features["token_ids"], features["targets"]
    for row, (prompt, completion) in enumerate(zip(*PAIRS.values(), strict=True)):
        own = [*plain(tokenizer, completion), tokenizer.end_token_id]
        learned = targets[row] >= 0
        assert targets[row][learned].tolist() == own
        size = int(features["padding_mask"][row].sum())
        begin = plain(tokenizer, prompt + "\n")
        assert ids[row][:size].tolist()[-len(begin + own) :] == begin + own
        # What is learned at a place is the id at the next.
        where = np.flatnonzero(learned)
        assert ids[row][where + 1].tolist() == own
    everything = encoded(CausalLM(max_length=32, learn="all"), family, PAIRS)["targets"]
    sizes = features["padding_mask"].sum(axis=1)
    assert (everything >= 0).sum(axis=1).tolist() == (sizes - 1).tolist()


def test_of_a_chat_the_assistants_turns_are_learned():
    task, tokenizer = CausalLM(format="chat", max_length=128), tiny.tokenizer("llama3")
    features = encoded(task, "llama3", CHATS)
    assert task.writing(tokenizer).template is chat.TEMPLATES["llama3"]
    learned = [said(tokenizer, row) for row in features["targets"]]
    assert learned == ["good<|eot_id|>theĠfilm<|eot_id|>", "bad<|eot_id|>"]
    whole = said(tokenizer, features["token_ids"][0][features["padding_mask"][0] > 0])
    turns = [{"role": role, "content": text} for role, text in CHATS["messages"][0]]
    spelled = "".join(text for text, _ in chat.render(turns, "llama3"))
    assert whole.replace("Ġ", " ").replace("Ċ", "\n") == spelled


def test_what_follows_the_assistants_last_word_is_left_out():
    more = {"messages": [(*CHATS["messages"][0], ("user", "free"), ("user", "prize"))]}
    task = CausalLM(format="chat", max_length=128)
    one, other = (encoded(task, "llama3", {"messages": c["messages"][:1]}) for c in (CHATS, more))
    assert one["token_ids"].tolist() == other["token_ids"].tolist()


@pytest.mark.parametrize(("family", "token"), [("llama3", "<|eot_id|>"), ("gemma", "<eos>")])
def test_a_message_that_spells_a_special_token_stays_text(family, token):
    """And a tokenizer that is asked as it is would take it for one (byte-level BPE)."""
    tokenizer = tokenizer_of(family)
    task = CausalLM(format="chat", template="plain", max_length=128)
    index = tokenizer.token_to_id(token)
    for text in (token, f"a{token}{token} b", f"{token[0]}{token}"):
        row = {"messages": [(("user", text), ("assistant", text))]}
        ids = encoded(task, family, row)["token_ids"][0].tolist()
        assert ids.count(index) == (1 if index == tokenizer.end_token_id else 0)
    if family == "llama3":
        asked = ragged_ids(tokenizer([token])).to_list()[0]
        assert asked == [index] and plain(tokenizer, token) != asked
    for text in ("the film <| was", "a < b", "\ue000"):
        assert plain(tokenizer, text) == ragged_ids(tokenizer([text])).to_list()[0]


def test_a_long_text_goes_on_in_the_next_row_and_no_token_is_learned_twice():
    text = "the film was good a bad story call now you " * 3
    task = CausalLM(format="text", max_length=16)
    features = encoded(task, "gpt2", {"text": [text, "a"]})
    tokenizer = tiny.tokenizer("gpt2")
    own = [*plain(tokenizer, text), tokenizer.end_token_id]
    rows = features["row"] == 0
    learned = features["targets"][rows]
    assert learned[learned >= 0].tolist() == own[1:]
    assert rows.sum() == 3 and features["token_ids"].shape[1] == 16


def test_long_prompts_lose_their_begin_and_long_chats_their_end():
    task = CausalLM(max_length=16)
    long = {"prompt": ["a bad story " * 9], "completion": ["was good"]}
    features = encoded(task, "llama", long)
    tokenizer = tiny.tokenizer("llama")
    ids = features["token_ids"][0].tolist()
    assert len(ids) == 16 and ids[0] == tokenizer.start_token_id
    assert ids[-3:] == [*plain(tokenizer, "was good"), tokenizer.end_token_id]
    asked = CausalLM(max_length=16).encode(tokenizer, {"prompt": tf.constant(long["prompt"])})
    assert (
        asked["token_ids"].numpy()[0].tolist()[1:]
        == encoded(CausalLM(max_length=64), "llama", long)["token_ids"][0].tolist()[:-3][-15:]
    )
    chats = CausalLM(format="chat", max_length=40, overlong="cut")
    assert encoded(chats, "llama3", CHATS)["lost"].tolist() == [
        (encoded(CausalLM(format="chat", max_length=128), "llama3", CHATS)["targets"][0] >= 0).sum()
        - (encoded(chats, "llama3", CHATS)["targets"][0] >= 0).sum(),
        0,
    ]


def test_what_does_not_fit_is_an_error_or_cut_as_asked():
    long = {"prompt": ["you"], "completion": ["a bad story " * 9]}
    for overlong, family in (("error", "gpt2"), ("cut", "gpt2")):
        task = CausalLM(max_length=16, overlong=overlong)
        features = encoded(task, family, long)
        if overlong == "cut":
            assert (task.targets(long, features) >= 0).sum() == 15
            continue
        with pytest.raises(InputError, match=r"data.max_length=16.*'a bad story.*overlong=cut"):
            task.targets(long, features)


def pipeline(task, family="llama", **options):
    return _rig.pipeline(family, "full", task, **options)


def test_the_likelihood_is_that_of_the_logits():
    """Perplexity = exp(sum of -log p / learned tokens), worked out with numpy."""
    pipe = pipeline(CausalLM(max_length=32))
    features = encoded(pipe.task, "llama", PAIRS)
    logits = pipe.outputs(features).astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    targets = features["targets"]
    each = np.take_along_axis(log_p, np.maximum(targets, 0)[:, :, None], axis=2)[:, :, 0]
    nll = -(each * (targets >= 0)).sum()
    rows = [dict(zip(PAIRS, values, strict=True)) for values in zip(*PAIRS.values(), strict=True)]
    rows[2]["prompt"] = "."  # a prompt is no empty cell
    report = pipe.evaluate(rows[:2])
    two = -(each * (targets >= 0))[:2].sum()
    assert report.after["nll"] == pytest.approx(two / (targets[:2] >= 0).sum(), rel=1e-5)
    assert report.after["perplexity"] == pytest.approx(np.exp(report.after["nll"]))
    ((_, tokens, sums),) = pipe.judged([PAIRS])
    assert tokens.tolist() == (targets >= 0).sum(axis=1).tolist()
    assert sums.sum() == pytest.approx(nll, rel=1e-5)


def packed_and_not(family, blind=False):
    """Loss and gradients of the same documents, each in a row of its own and packed."""
    task = CausalLM(format="chat", template="plain", max_length=64, overlong="cut", packing=True)
    pipe = pipeline(task, family)
    chats = {"messages": [*CHATS["messages"], (("user", "free"), ("assistant", "prize"))] * 2}
    encode = encoder(task, pipe.tokenizer, task.reads)
    rows = encode_rows([chats], encode, task, keep=pipe.inputs)
    found = []
    for model in (pipe.model, task.trained(pipe.model)):
        names = tuple(i.name for i in model.inputs)
        feed = feed_of(task, rows, names, batch_size=99, shuffle=False)
        ((x, y, weights),) = feed.batches()
        if "document_ids" in x and blind:
            x["document_ids"] = np.minimum(x["document_ids"], 1)
        fitted = Fitted(model, task.loss())
        with tf.GradientTape() as tape:
            out = fitted({n: tf.constant(v) for n, v in x.items()}, training=True)
            loss = fitted.compute_loss(x, tf.constant(y), out, tf.constant(weights))
        gradients = tape.gradient(loss, pipe.model.trainable_variables)
        found.append(
            (len(y), float(loss), [np.asarray(tf.convert_to_tensor(g)) for g in gradients])
        )
    return found


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_packed_rows_learn_what_single_rows_learn(family):
    (rows, loss, gradients), (fewer, packed, others) = packed_and_not(family)
    assert fewer < rows
    assert packed == pytest.approx(loss, rel=1e-5)
    for one, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


def test_documents_that_see_each_other_are_noticed():
    (_, loss, _), (_, packed, _) = packed_and_not("llama", blind=True)
    assert abs(packed - loss) > 1e-3


def test_packing_is_for_families_that_keep_documents_apart():
    task = CausalLM(format="chat", max_length=64, packing=True)
    with pytest.raises(InputError, match="decoder"):
        task.build(tiny.backbone("bert"))


def test_a_batch_of_bins_weighs_its_learned_tokens():
    task = CausalLM(max_length=16, packing=True, overlong="cut")
    pipe = pipeline(task, "llama")
    encode = encoder(task, pipe.tokenizer, task.reads)
    rows = encode_rows([PAIRS], encode, task, keep=pipe.inputs)
    feed = feed_of(task, rows, ("token_ids", "padding_mask", "document_ids"), 8, shuffle=False)
    chosen = feed.plan.epoch(0)[0]
    batch = feed.plan.batch(rows, chosen)
    assert isinstance(batch, Batch)
    assert batch.weights.tolist() == (batch.targets >= 0).sum(axis=1).tolist()
    drawn = {}
    again = feed_of(task, rows, feed.inputs, 8, shuffle=False)
    object.__setattr__(again, "draw", lambda b, rng: drawn.setdefault("seed", b) or b)
    assert next(again.batches())[1].tolist() == batch.targets.tolist() and "seed" in drawn


# --- answers --------------------------------------------------------------------------------------

PROMPTS = ["the film", "", "free prize call now", "很好 😀"]


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 1.0, "top_k": 5}, {"stop": ["a"]}, {"beams": 2}],
    ids=["greedy", "drawn", "stop", "beams"],
)
def test_streams_say_what_predict_says(options):
    task = CausalLM(max_length=16, max_new_tokens=6, **options)
    pipe = pipeline(task, "gpt2")
    answers = pipe.predict(PROMPTS)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        assert set(answer) == {"completion", "tokens"}
        assert len(answer["tokens"]) <= 6
        if "beams" not in options:
            assert "".join(pipe.stream(prompt)) == answer["completion"]
    assert pipe.predict(PROMPTS[:1]) == answers[:1]


def test_a_chat_remembers():
    task = CausalLM(format="chat", max_length=128, max_new_tokens=4)
    pipe = pipeline(task, "llama3")
    talk = pipe.chat("the film")
    first = "".join(talk.say("good"))
    assert [m["role"] for m in talk.messages] == ["system", "user", "assistant"]
    assert talk.messages[2]["content"] == first
    alone = "".join(pipe.stream([*talk.messages, {"role": "user", "content": "bad"}]))
    assert "".join(talk.say("bad")) == alone and len(talk.messages) == 5
    talk.clear()
    assert "".join(talk.say("good")) == first
    # A prompt alone is a user's turn.
    own = "".join(pipe.stream([{"role": "user", "content": "good"}]))
    assert pipe.predict(["good"])[0]["completion"] == own


def test_a_prompt_in_the_graph_is_written_as_a_chat_is():
    """For every template whose markers a tokenizer can have; spaces around go where asked."""
    for name, template in chat.TEMPLATES.items():
        ids = {m: i for i, m in enumerate(template.markers)}
        writing = _language.Writing(template, (), chat.end_of(template), ids)
        for text in ("a b", "  \n a\u3000", "", "<|im_end|>"):
            turns = [{"role": "system", "content": "x"}, {"role": "user", "content": text}]
            meant = _language.chat_segments(writing, turns, prompt=True)
            got = _language.prompt_segments(writing, tf.constant([text]), "x").to_list()[0]
            assert "".join(s.decode()[1:] for s in got) == "".join(s[1:] for s in meant), name


def test_the_template_must_be_one_that_the_tokenizer_can_write():
    task = CausalLM(format="chat", template="chatml")
    with pytest.raises(InputError, match=r"'chatml'.*<\|im_start\|>.*Use `plain`"):
        task.writing(tiny.tokenizer("gpt2"))
    assert CausalLM(format="chat").writing(tiny.tokenizer("gpt2")).template.name == "plain"
    assert CausalLM(format="chat").writing(tiny.tokenizer("llama3")).template.name == "llama3"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "dialogue"}, "format"),
        ({"format": "chat", "template": "none"}, "A chat needs a template"),
        ({"learn": "prompts"}, "learn"),
        ({"beams": 2, "temperature": 0.5}, "Beam search"),
        ({"stop": [""]}, "stop"),
        ({"top_p": 0}, "top_p"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        CausalLM(**options)


def test_an_encoder_writes_nothing():
    with pytest.raises(InputError, match="decoder.*BertBackbone"):
        CausalLM().build(tiny.backbone("bert"))
    with pytest.raises(InputError, match="language model"):
        _rig.pipeline("bert").stream("a")
    with pytest.raises(InputError, match="language model"):
        _rig.pipeline("bert").chat()


def test_generate_takes_options_a_row():
    """A row's text is that of the same options for all, whatever the other rows ask."""
    pipe = pipeline(CausalLM(max_length=16, max_new_tokens=6), "gpt2")
    generate = _writers.signatures(pipe.task, pipe)["generate"]
    options = {
        "max_new_tokens": tf.constant([3, 6, 5]),
        "temperature": tf.constant([0.0, 1.0, 2.0]),
        "top_k": tf.constant([0, 3, 0]),
        "top_p": tf.constant([1.0, 1.0, 0.7]),
        "seed": tf.constant([0, 1, 2]),
    }
    prompts = tf.constant(["the film", "you", "a"])
    got = generate(prompts, *options.values())
    for row in range(3):
        part = [v[row : row + 1] for v in options.values()]
        alone = generate(prompts[row : row + 1], *part)
        assert alone["completion"][0] == got["completion"][row]
    greedy = CausalLM(max_length=16, max_new_tokens=3)
    same = _rig.pipeline("gpt2", "full", greedy).predict(["the film"])[0]["completion"]
    assert got["completion"][0].numpy().decode() == same


def test_it_learns_what_it_is_shown():
    rows = [{"prompt": p, "completion": c} for p, c in (("the", "film"), ("a", "story"))]
    pipe = pipeline(CausalLM(max_length=16, max_new_tokens=8), "gpt2")
    before = pipe.evaluate(rows).after["perplexity"]
    task = pipe.task
    encode = encoder(task, pipe.tokenizer, task.reads)
    fields = {name: [row[name] for row in rows] for name in rows[0]}
    batch = next(
        feed_of(
            task, encode_rows([fields], encode, task, keep=pipe.inputs), pipe.inputs, 2
        ).batches()
    )
    _rig.stepped(pipe, 20, batch=batch)
    assert pipe.evaluate(rows).after["perplexity"] < 0.1 * before
    pipe = type(pipe)(pipe.model, pipe.tokenizer, task)  # what was compiled reads the new weights
    assert [a["completion"] for a in pipe.predict(["the", "a"])] == ["film", "story"]


def test_a_prompt_that_fills_the_positions_leaves_room_for_an_answer():
    """GPT-2's positions end; the prompt's own end is what is gone on with."""
    pipe = pipeline(CausalLM(max_length=64, max_new_tokens=8), "gpt2")
    long, short = "the film " * 60, "the film " * 20
    (answer,) = pipe.predict([long])
    assert len(answer["tokens"]) == 8
    assert "".join(pipe.stream(long)) == answer["completion"]
    ids = tf.constant([[7, *range(1, 64)]]), tf.ones([1, 64], tf.int32)
    cut, mask = _writers.with_room(ids, 64, 8)
    assert cut.numpy()[0].tolist() == list(range(8, 64)) and mask.shape == (1, 56)
    assert _writers.with_room(ids, None, 8) is ids
    assert len(pipe.predict([short])[0]["tokens"]) == 8


def test_a_completion_that_is_cut_keeps_its_begin():
    long = {"prompt": ["you call now"], "completion": ["the film was good a bad story free prize"]}
    features = encoded(CausalLM(max_length=8, overlong="cut"), "llama", long)
    tokenizer = tokenizer_of("llama")
    own = plain(tokenizer, long["completion"][0])
    targets = features["targets"][0]
    assert targets[targets >= 0].tolist() == own[:7] and features["lost"][0] == len(own) + 1 - 7
    everything = encoded(CausalLM(max_length=8, overlong="cut", learn="all"), "llama", long)
    assert everything["token_ids"].tolist() == features["token_ids"].tolist()


def test_a_request_cannot_ask_for_any_number_of_tokens(monkeypatch):
    """Not even one whose sum with the prompt's length no int32 holds."""
    pipe = pipeline(CausalLM(max_length=16, max_new_tokens=6), "llama")
    found = {}
    for bound, wanted in ((3, 2**31 - 1), (3, 20), (100, 20)):
        monkeypatch.setattr(_writers, "MOST_SERVED", bound)
        generate = _writers.signatures(pipe.task, pipe)["generate"]
        ask = {"max_new_tokens": wanted, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "seed": 0}
        got = generate(tf.constant(["the film"]), *(tf.constant([v]) for v in ask.values()))
        found[bound, wanted] = got["tokens"].shape[1]
    assert found == {(3, 2**31 - 1): 6, (3, 20): 6, (100, 20): 20}


@pytest.mark.parametrize("value", ["END", None, 5])
def test_one_text_is_no_list_of_letters(value):
    for task in (CausalLM, TextToText):
        with pytest.raises(InputError, match="`stop` must be a list"):
            task(stop=value)
    with pytest.raises(InputError, match="`labels` must be a list"):
        TextClassification(labels="spam")


def test_what_is_no_chat_is_told():
    pipe = pipeline(CausalLM(format="chat", max_length=64, max_new_tokens=2), "llama3")
    with pytest.raises(InputError, match="`role` and `content`"):
        pipe.stream([{"role": "user"}])
    with pytest.raises(InputError, match="max_new_tokens"):
        pipe.stream("a", max_new_tokens=-5)
    for call in (lambda t: pipe.predict([t]), pipe.stream, lambda t: list(pipe.chat().say(t))):
        with pytest.raises(InputError, match="Received"):
            call("a \ud800 b")
    with pytest.raises(InputError, match="no turns"):
        CausalLM(format="text", template="plain")


def test_tasks_are_imported_one_by_one():
    code = "import kerasft.tasks.causal_lm, kerasft.tasks as t; t.CausalLM()"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0

"""Chats as text: golden strings, who learns what, and markers that a message cannot forge."""

import json
from pathlib import Path

import pytest

from kerasft._core.errors import InputError
from kerasft.preprocessing import chat
from kerasft.preprocessing.chat import TEMPLATES, render, segments, special_tokens

GOLDEN = Path(__file__).parents[1] / "golden" / "chat.json"
CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": " Bye "},
    {"role": "assistant", "content": " See you "},
]


def said(*roles):
    return [{"role": role, "content": f"{role} {i}"} for i, role in enumerate(roles)]


def text(messages, template, prompt=False):
    return "".join(s.text for s in segments(messages, template, prompt))


@pytest.mark.parametrize("row", range(5))
@pytest.mark.parametrize("template", ["chatml", "smollm2"])
def test_as_transformers_renders_it(template, row):
    case = json.loads(GOLDEN.read_text(encoding="utf-8"))[row]
    assert text(case["messages"], template, case["prompt"]) == case[template]


@pytest.mark.parametrize(
    "template, expected",
    [
        (
            "plain",
            "Be kind.\n\nUser: Hi\nAssistant: Hello<|endoftext|>\n"
            "User:  Bye \nAssistant:  See you <|endoftext|>\n",
        ),
        (
            "llama3",
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nSee you<|eot_id|>",
        ),
        (
            "llama2",
            "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello </s>"
            "<s>[INST] Bye [/INST] See you </s>",
        ),
        (
            "gemma",
            "<bos><start_of_turn>user\nBe kind.\n\nHi<end_of_turn>\n"
            "<start_of_turn>model\nHello<end_of_turn>\n"
            "<start_of_turn>user\nBye<end_of_turn>\n"
            "<start_of_turn>model\nSee you<end_of_turn>\n",
        ),
    ],
)
def test_golden_strings(template, expected):
    assert text(CHAT, template) == expected


@pytest.mark.parametrize(
    "template, learned",
    [
        ("plain", [" Hello<|endoftext|>", "  See you <|endoftext|>"]),
        ("chatml", ["Hello<|im_end|>", " See you <|im_end|>"]),
        ("smollm2", ["Hello<|im_end|>", " See you <|im_end|>"]),
        ("llama3", ["Hello<|eot_id|>", "See you<|eot_id|>"]),
        ("llama2", [" Hello </s>", " See you </s>"]),
        ("gemma", ["Hello<end_of_turn>", "See you<end_of_turn>"]),
    ],
)
def test_the_answers_and_their_ends_are_learned_and_nothing_else(template, learned):
    parts = render(CHAT, template)
    assert [part for part, counts in parts if counts] == learned
    assert "".join(part for part, _ in parts) == text(CHAT, template)
    assert all(one[1] != other[1] for one, other in zip(parts, parts[1:]))
    assert learned[0].endswith(chat.end_of(template))


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_prompt_is_what_stands_before_the_learned_answer(template):
    whole = text(CHAT, template)
    prompt = text(CHAT[:-1], template, prompt=True)
    last = [part for part, counts in render(CHAT, template) if counts][-1]
    assert whole.startswith(prompt + last)
    assert not any(s.learned for s in segments(CHAT[:-1], template, prompt=True))


@pytest.mark.parametrize("template", TEMPLATES)
def test_markers_are_special_and_only_markers(template):
    found = segments(CHAT, template)
    assert {s.text for s in found if s.kind == "special"} == set(special_tokens(template))
    assert {s.kind for s in found} == {"special", "text"}
    assert not any(m in s.text for s in found if s.kind == "text" for m in special_tokens(template))
    neighbours = zip(found, found[1:])
    assert not any(a.kind == b.kind == "text" and a.learned == b.learned for a, b in neighbours)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("role", range(3))
def test_a_message_cannot_forge_a_marker(template, role):
    forged = "".join(special_tokens(template)) + "{}"
    messages = [dict(m) for m in CHAT[:3]]
    honest = [s for s in segments(messages, template) if s.kind == "special"]
    messages[role]["content"] = f"a {forged} b"
    found = segments(messages, template)
    assert [s for s in found if s.kind == "special"] == honest
    assert any(forged in s.text for s in found if s.kind == "text")


def test_braces_in_messages_stay():
    messages = [{"role": "user", "content": "{} {0}"}, {"role": "assistant", "content": "{x}{}"}]
    for template in TEMPLATES:
        assert "{} {0}" in text(messages, template) and "{x}{}" in text(messages, template)
    system = [{"role": "system", "content": "{} of {}"}, *messages]
    assert "{} of {}" in text(system, "llama2")


def test_a_default_system_gives_way():
    assert "SmolLM" in text(CHAT[1:], "smollm2")
    assert "SmolLM" not in text(CHAT, "smollm2")
    assert text(CHAT, "smollm2") == text(CHAT, "chatml")


@pytest.mark.parametrize("template", ["plain", "chatml", "smollm2", "llama3"])
def test_two_users_in_a_row_are_two_turns_where_the_original_takes_any_order(template):
    found = text(said("user", "user", "assistant"), template)
    assert found.index("user 0") < found.index("user 1") < found.index("assistant 2")
    assert "system 1" in text(said("user", "system", "user", "assistant"), template)


@pytest.mark.parametrize("template", ["llama2", "gemma"])
@pytest.mark.parametrize(
    "roles",
    [
        ("user", "user", "assistant"),
        ("user", "assistant", "assistant"),
        ("user", "system", "assistant"),
        ("system", "system", "user", "assistant"),
    ],
)
def test_and_refused_where_it_asks_for_turns(template, roles):
    with pytest.raises(InputError, match=f"{template}.*take turns.*Received: {', '.join(roles)}"):
        segments(said(*roles), template)


@pytest.mark.parametrize(
    "messages, prompt, message",
    [
        ([], False, "at least one user's message. Received: no message"),
        (said("system"), True, "at least one user's message"),
        (said("assistant", "user"), True, "A user speaks first.*assistant, user"),
        (said("system", "assistant"), False, "A user speaks first"),
        (said("user"), False, "to learn from must end with the assistant's"),
        (said("user", "assistant"), True, "to go on with must not end"),
        (said("user", "bot"), False, "Received: 'bot' in message 2"),
        (said("users"), True, "Did you mean 'user'"),
        ([{"role": "user"}], True, "as message 1"),
        ([{"content": "x"}], True, "needs a `role`"),
        ([{"role": "user", "content": None}], True, "a text as `content`"),
        (["hello"], True, "Received: 'hello' as message 1"),
    ],
)
@pytest.mark.parametrize("template", ["plain", "llama2"])
def test_wrong_chats(template, messages, prompt, message):
    for function in (segments, render):
        with pytest.raises(InputError, match=message):
            function(messages, template, prompt)


def test_another_end():
    other = chat.ending("plain", "</s>")
    assert text(CHAT[1:3], other) == "User: Hi\nAssistant: Hello</s>\n"
    assert special_tokens(other) == ("</s>",) and chat.end_of(other) == "</s>"
    assert special_tokens("plain") == ("<|endoftext|>",)
    assert special_tokens(chat.ending("chatml", "</s>")) == ("<|im_start|>", "<|im_end|>", "</s>")


def test_unknown_template():
    with pytest.raises(InputError, match="Did you mean 'llama3'"):
        segments(CHAT, "lama3")

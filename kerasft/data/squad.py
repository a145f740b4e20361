"""Questions with answers in a text: SQuAD's JSON files, and answers put where they stand."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kerasft._core.errors import InputError
from kerasft.data.streams import BLOCK, open_bytes
from kerasft.data.tables import Row, Table, pick

COLUMNS = ("id", "title", "context", "question", "answers")
_BOM = "\ufeff"
_SPACE = re.compile(r"\s*")
_KEY = re.compile(r'"(?:paragraphs|question)"\s*:')
Answers = tuple[tuple[int, str], ...]


def is_squad(path: str) -> bool:
    """Whether a .json file is one object that holds questions in a list named "data".

    Looks at the first 256 KiB alone; a file with one object a line is told by its content.
    """
    with open_bytes(path) as stream:
        start = stream.read(BLOCK).decode("utf-8", "replace").removeprefix(_BOM)
    decode, at = json.JSONDecoder().raw_decode, _skip(start, 0)
    if start[at : at + 1] != "{":
        return False
    try:
        while start[at] in "{,":
            key, at = decode(start, _skip(start, at + 1))
            at = _skip(start, at)
            value = _skip(start, at + 1)
            if start[at] != ":":
                return False
            if key == "data" and start[value] == "[":
                return _is_question(start, _skip(start, value + 1))
            at = _skip(start, decode(start, value)[1])
    except (ValueError, IndexError, RecursionError):  # cut off before anything named "data"
        pass
    return False


def _is_question(start: str, at: int) -> bool:
    """Whether the object that begins there is an article, or a question, of SQuAD."""
    try:
        first, _ = json.JSONDecoder().raw_decode(start, at)
    except ValueError:  # longer than what was read
        return start[at] == "{" and bool(_KEY.search(start, at))
    return isinstance(first, dict) and ("paragraphs" in first or "question" in first)


def _skip(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()


def squad_table(path: str) -> Table:
    """Return the table of a SQuAD file, v1.1 or v2.0, or of a list of rows under "data".

    A row is a question, in the order of the file: `id`, `title`, `context`, `question`, `answers`
    (a list of {"text", "answer_start"}; empty where `is_impossible` is true). Plausible answers
    are not read. The file is held in memory while it is read.

    Args:
        path: a .json file (see `is_squad`), also .gz or .xz.

    Raises:
        InputError: while reading, for a file that is not valid JSON, or a part of another form.

    Reference: Rajpurkar et al. 2018, "Know What You Don't Know", https://arxiv.org/abs/1806.03822
    """

    def read(columns: Sequence[str]) -> Iterator[Row]:
        places = pick(path, columns, COLUMNS)
        for number, row in enumerate(_questions(_parsed(path), path), 1):
            yield number, tuple([None if i is None else row[COLUMNS[i]] for i in places])

    return Table(path, read, unit="question")


def _parsed(path: str) -> list:
    with open_bytes(path) as stream:
        content = stream.read()
    try:
        return json.loads(content.decode("utf-8-sig"))["data"]
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason = f"UTF-8 text is expected. Received: byte 0x{content[error.start]:02x}"
    except json.JSONDecodeError as error:
        line, reason = error.lineno, f"valid JSON is expected ({error.msg})"
    except RecursionError:
        line, reason = 1, "JSON of a few levels is expected, but it is nested too deep"
    raise InputError(f"{path}, line {line}: {reason}. Write the file anew.")


def _questions(articles: Any, path: str) -> Iterator[dict[str, Any]]:
    for a, article in enumerate(_list(articles, path, "`data`"), 1):
        where = f"article {a}"
        article = _object(article, path, where)
        if "paragraphs" not in article:  # a list of rows, as `datasets` writes them
            yield _question(article, article, article, path, f"row {a}")
            continue
        for p, paragraph in enumerate(_list(article["paragraphs"], path, where), 1):
            inner = f"{where}, paragraph {p}"
            questions = _object(paragraph, path, inner).get("qas")
            for q, question in enumerate(_list(questions, path, f"`qas` of {inner}"), 1):
                at = f"{inner}, question {q}"
                yield _question(article, paragraph, _object(question, path, at), path, at)


def _question(article: dict, paragraph: dict, question: dict, path: str, where: str) -> dict:
    row = {name: question.get(name) for name in COLUMNS}
    row |= {"title": article.get("title"), "context": paragraph.get("context")}
    for name in ("context", "question"):
        if not isinstance(row[name], str):
            raise InputError(
                f"{path}, {where}: a text named {name!r} is expected. "
                f"Received: {type(row[name]).__name__}."
            )
    if question.get("is_impossible") is True:
        row["answers"] = []
    return row


def _list(value: Any, path: str, where: str) -> list:
    if not isinstance(value, list):
        raise InputError(
            f"{path}, {where}: a list is expected, as in SQuAD. Received: {type(value).__name__}."
        )
    return value


def _object(value: Any, path: str, where: str) -> dict:
    if not isinstance(value, dict):
        raise InputError(
            f"{path}, {where}: an object is expected, as in SQuAD. "
            f"Received: {type(value).__name__}."
        )
    return value


# --- answers ------------------------------------------------------------------------------------


def gather(answers: Any, answer: Any, answer_text: Any, answer_start: Any) -> Any:
    """One cell of answers: that of `answers`, else made of a text and its start.

    Example:
        gather(None, None, "Paris", 12)  # [{"text": "Paris", "answer_start": 12}]
    """
    if answers is not None:
        return answers
    found = answer_text if answer is None else answer
    if found is None or (isinstance(found, str) and not found):
        return None
    start = None if isinstance(answer_start, str) and not answer_start.strip() else answer_start
    if isinstance(found, (Mapping, list, tuple)) and start is None:
        return found
    return [{"text": found, "answer_start": start}]


def place_answers(context: str, answers: Answers) -> tuple[Answers, int]:
    """Put each answer where it stands in its context.

    Args:
        context: the text.
        answers: (start, text) of each; start in code points, -1 where it is not known.

    Returns:
        (answers with the start of the occurrence nearest to the one given, of the first where
        none was given, and -1 for an answer that the context does not hold; how many moved).

    Example:
        place_answers("in Paris, Paris", ((9, "Paris"),))  # (((10, "Paris"),), 1)
    """
    placed, moved = [], 0
    for start, text in answers:
        if start < 0 or not context.startswith(text, start):
            found = _nearest(context, text, start)
            moved += found >= 0 <= start
            start = found
        placed.append((start, text))
    return tuple(placed), moved


def _nearest(context: str, text: str, start: int) -> int:
    """The occurrence nearest to `start`, the earlier one of two; -1 for none."""
    if start < 0:
        return context.find(text)
    before = context.rfind(text, 0, start + len(text))
    after = context.find(text, start)
    if min(before, after) < 0:
        return max(before, after)
    return before if start - before <= after - start else after

"""A page for the desk: a person types, and the page asks a model as any client of REST does.

Its routes stand beside those of TF Serving and are ours: `/`, `/page/page.css`, `/page/page.js`,
`/favicon.ico` (nothing) and `/page/models.json`, which tells what TF Serving's routes do not: which
models there are, what they do, and what their classes are called. Nothing comes from elsewhere, so
that it works offline.
"""

import asyncio
from collections.abc import Mapping
from importlib.resources import files as resources
from typing import Any

from aiohttp import web

from kerasft._core import files
from kerasft._core.errors import InputError
from kerasft.serving.json_form import DEFAULT
from kerasft.serving.versions import Loaded, Models

MODELS = "/page/models.json"
_FILES = {
    "/": ("page.html", "text/html"),
    "/page/page.css": ("page.css", "text/css"),
    "/page/page.js": ("page.js", "text/javascript"),
}
_ICON = "/favicon.ico"  # browsers ask for it, and would log that there is none
_HEADERS = {
    # The texts of a model and of its user are never code. No other site frames the page.
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # another kerasft may listen here tomorrow
}
# task: inputs that it has beside others, and all its outputs. The first that fits is it.
_TASKS = (
    ("relation-extraction", {"text", "head_start", "tail_start"}, {"label", "probabilities"}),
    ("zero-shot-classification", {"text", "labels"}, {"label", "probabilities"}),
    ("text-classification", {"text"}, {"label", "probabilities", "logits"}),
    ("text-classification", {"text"}, {"labels", "probabilities", "logits"}),
    ("text-classification", {"text"}, {"score"}),
    ("token-classification", {"text"}, {"text", "label", "start", "end", "score"}),
    ("question-answering", {"question", "context"}, {"answer", "start", "end", "score"}),
    ("text-similarity", {"text"}, {"embedding"}),
    ("causal-lm", {"prompt"}, {"completion", "tokens"}),
    ("text-to-text", {"text"}, {"completion", "tokens"}),
    ("masked-lm", {"text"}, {"token", "score"}),
)


class Page:
    """The routes of the page.

    Args:
        models: the versions that are served.
    """

    def __init__(self, models: Models):
        self._models, here = models, resources(__name__)
        self._files = {
            path: (here.joinpath(name).read_bytes(), kind) for path, (name, kind) in _FILES.items()
        }

    async def answer(self, path: str) -> web.Response | None:
        """What stands at a path; None where the page has nothing."""
        if path == MODELS:
            # Class names lie in files, which are not read in the loop that serves all others.
            told = await asyncio.to_thread(models_json, self._loaded())
            return web.json_response(told, headers=_HEADERS)
        if path == _ICON:
            return web.Response(status=204)
        if path not in self._files:
            return None
        body, kind = self._files[path]
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=_HEADERS)

    def _loaded(self) -> dict[str, list[Loaded]]:
        """The versions that answer, the newest first."""
        return {
            name: [self._models.find(name, number) for number in reversed(numbers)]
            for name, numbers in self._models.versions().items()
        }


def models_json(loaded: Mapping[str, list[Loaded]]) -> dict[str, Any]:
    """What the page has to know of the models.

    Args:
        loaded: model -> its versions, the newest first.

    Returns:
        `models`, a list of `name` and `versions`; a version has `version` (its number as text, as
        in TF Serving's JSON), `task` ("" for a SavedModel that is not of kerasft's form), `classes`
        in the order of its probabilities, and `adapters`, the classes of each (None: it takes
        none).

    Example:
        {"models": [{"name": "spam", "versions": [{"version": "1", "task": "text-classification",
        "classes": ["ham", "spam"], "adapters": None}]}]}
    """
    return {
        "models": [
            {"name": name, "versions": [_version(version) for version in versions]}
            for name, versions in loaded.items()
        ]
    }


def _version(version: Loaded) -> dict[str, Any]:
    classes, adapters = (_extra(version.folder, name) for name in ("labels.json", "adapters.json"))
    found = adapters if isinstance(adapters, dict) else {}
    return {
        "version": str(version.version),
        "task": task_of(version.signatures),
        "classes": _names(classes),
        "adapters": {n: _names(labels) for n, labels in found.items()} or None,
    }


def task_of(signatures: Mapping[str, Any]) -> str:
    """The task of a model, by the names of what `serving_default` takes and gives.

    Args:
        signatures: name -> what has `inputs` and `outputs`.

    Returns:
        The task's name, "" for none of ours.
    """
    if DEFAULT not in signatures:
        return ""
    signature = signatures[DEFAULT]
    taken, given = set(signature.inputs), set(signature.outputs)
    return next((task for task, some, every in _TASKS if some <= taken and every == given), "")


def _extra(folder: str, name: str) -> Any:
    """A file of `assets.extra`; None where a SavedModel comes without it."""
    try:
        return files.read_json(files.join(folder, "assets.extra", name))
    except (InputError, OSError):
        return None


def _names(value: Any) -> list[str]:
    """Names of classes; none where they are of another form, and classes go by their numbers."""
    fine = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return value if fine else []

"""The golden Hugging Face folders, loaded once for all tests here."""

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


class Golden:
    """A golden folder, what kerasft makes of it, and what Transformers answered."""

    def __init__(self, name: str):
        self.name, self.folder = name, GOLDEN / name
        answers = self.folder if (self.folder / "expected.npz").exists() else GOLDEN / "bert"
        self.expected = dict(np.load(answers / "expected.npz"))
        self.texts = json.loads((self.folder / "texts.json").read_text(encoding="utf-8"))

    @functools.cached_property
    def loaded(self) -> tuple[Any, Any]:
        from kerasft.backbones.huggingface import load_folder

        return load_folder(str(self.folder))

    @functools.cached_property
    def head(self) -> Any:
        from kerasft.backbones.huggingface import read_head

        return read_head(str(self.folder))

    @functools.cached_property
    def written(self) -> Path:
        """The folder that kerasft writes of it."""
        from kerasft.backbones.huggingface import write_folder

        self._kept = tempfile.TemporaryDirectory()
        write_folder(self._kept.name, *self.loaded, self.head, max_length=40)
        return Path(self._kept.name)

    @functools.cached_property
    def again(self) -> tuple[Any, Any]:
        """What kerasft makes of the folder that it wrote."""
        from kerasft.backbones.huggingface import load_folder

        return load_folder(str(self.written))


@functools.cache
def golden_of(name: str) -> Golden:
    return Golden(name)

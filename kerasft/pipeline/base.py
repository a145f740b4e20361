"""A pipeline's base, and other adapters on it."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any

from kerasft._core import weights
from kerasft._core.errors import InputError
from kerasft.backbones import build_backbone
from kerasft.backbones.saved import saved_folder
from kerasft.methods import adapt, read_adapter
from kerasft.pipeline.pipeline import Pipeline
from kerasft.tasks import registry as tasks


class Base:
    """The weights of a pipeline's backbone, without what its method has put beside them.

    Args:
        pipe: the pipeline; what its method has moved in place is part of the base.

    Raises:
        InputError: if the method holds the weights in a form of its own (qlora).
    """

    def __init__(self, pipe: Pipeline):
        self.pipe = pipe
        state = weights.state_of(pipe.backbone)
        wanted = weights.named(build_backbone(pipe.adapted.description).weights)
        if not set(wanted) <= set(state):
            gone = next(path for path in wanted if path not in state)
            raise InputError(
                "Another adapter stands on a base whose weights are there. Received: the method "
                f"{pipe.adapted.method_config['name']!r}, in which {gone} has another form."
            )
        self.weights = {path: state[path] for path in wanted}
        self._last: tuple[str, Pipeline] | None = None

    def pipeline(self, task: Any, method: Any) -> Pipeline:
        """A new pipeline of a task and a method on a copy of the base."""
        plain = build_backbone(self.pipe.adapted.description)
        weights.assign(plain, self.weights, "the base")
        model = task.build(adapt(plain, method))
        return Pipeline(model, self.pipe.tokenizer, task, self.pipe.info)

    def read(self, adapter: str | os.PathLike) -> Pipeline:
        """A pipeline of an adapter file, or of the adapter of a run, with the file's own task.

        Raises:
            InputError: if it is no adapter of this base.
        """
        told = os.fspath(adapter)
        with _file_of(adapter) as path:
            _, notes = read_adapter(path)
            try:
                pipe = self.held(tasks.build(notes["task"]), notes["method"])
            except InputError as error:
                raise InputError(f"{told}: {error}") from error
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise InputError(f"{told} does not say what it is: {error!r}.") from error
            pipe.load_adapter(path, told)
        return pipe

    def held(self, task: Any, method: Any) -> Pipeline:
        """As `pipeline`, but the one of the last time where task and method are the same: for who
        takes its weights out before the next one is asked for."""
        key = repr((tasks.config(task), method))
        if self._last is None or self._last[0] != key:
            self._last = None  # one at a time in memory
            self._last = (key, self.pipeline(task, method))
        return self._last[1]


@contextlib.contextmanager
def _file_of(adapter: str | os.PathLike) -> Iterator[str]:
    """The adapter file that a place is, or one of the run that lies there."""
    if saved_folder(adapter) is None:
        yield os.fspath(adapter)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Pipeline.load(adapter).save_adapter(os.path.join(folder, "own.safetensors"))

"""Several adapters on one base: attach, answer each row by its own, add up, export together."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from kerasft._core import stack
from kerasft._core.checks import nearest
from kerasft._core.errors import InputError
from kerasft.backbones._surgery import own_weights
from kerasft.data import input_specs, tensors_of
from kerasft.methods import (
    Change,
    Routes,
    adapter_weights,
    changes_of,
    set_adapter_weights,
    summed,
)
from kerasft.pipeline._answers import in_batches, rows_of, sound, told
from kerasft.pipeline.base import Base
from kerasft.pipeline.pipeline import Pipeline
from kerasft.tasks import registry as tasks

stack.ensure()
import tensorflow as tf  # noqa: E402  (after the backend is chosen)

# Options of a task that its answers depend on, and those of its training. All others have to be
# the same, because one graph reads the texts of all adapters.
_ANSWERS = ("labels", "thresholds")
_TRAINING = (
    "class_weights",
    "label_smoothing",
    "focal_gamma",
    "head_dropout",
    "packing",
    "overlong",
    "learn",
)


@dataclass(frozen=True)
class _Attached:
    """One adapter: its task, the number of its logits, what it makes of the base's layers, its
    head, and what it is alone: its method with the adapter's weights, or None of a sum."""

    task: Any
    width: int | None
    changes: dict[str, Change]
    head: dict[str, np.ndarray]
    method: dict | None = None
    weights: dict[str, np.ndarray] | None = None


class AdapterSet:
    """Several adapters on one base, of which every row of a batch takes its own.

    The SavedModel of all holds the base once. An adapter's rows are answered as the adapter alone
    answers them, up to the rounding of float32. The adapter "" is the pipeline itself.

    Args:
        pipe: the pipeline on whose base the adapters were trained.

    Raises:
        InputError: if the pipeline's own method holds its base in a form of its own (qlora), or is
            no function of a row (prompts, prefixes, bottlenecks), or its task weighs several
            things for one text (labels that are asked, masked words).

    Example:
        >>> many = kerasft.AdapterSet(kerasft.load("runs/base"))
        >>> many.attach("acme", "acme.safetensors")
        >>> many.attach("birch", "birch.safetensors")
        >>> many.predict(["free prize!!!", "See you at 3"], adapter=["acme", "birch"])
        >>> many.export("saved_models/spam")

    Reference: Sheng et al. 2023, "S-LoRA", https://arxiv.org/abs/2311.03285
    """

    def __init__(self, pipe: Pipeline):
        if hasattr(pipe.task, "answer") and not hasattr(pipe.task, "stream"):
            raise InputError(
                "Adapters stand side by side where a row of text is a row of the model, or a text "
                f"that it writes. Received: task {pipe.task.name!r}. Serve these on their own."
            )
        self._base = Base(pipe)
        self._attached: dict[str, _Attached] = {}
        self._together: _Together | None = None
        self._attached[""] = self._parts(pipe)

    @property
    def names(self) -> list[str]:
        """The names of the attached adapters, in their order."""
        return [name for name in self._attached if name]

    def attach(
        self, name: str, adapter: str | os.PathLike | Mapping[str, float], head: str | None = None
    ) -> None:
        """Add an adapter.

            sum: base + sum_k weight_k (adapter_k - base), its head the weighted mean of the heads

        Args:
            name: what rows call it.
            adapter: an adapter file (`Pipeline.save_adapter`) that was trained on this base, the
                folder of a run that holds one, or a mapping from attached adapters to weights:
                their weighted sum.
            head: of a sum: the adapter whose head it takes, instead of the mean.

        Raises:
            InputError: if there is an adapter of that name, the file is none or was trained on
                another base, its task reads texts in another way, or it is no function of a row.
        """
        if not sound(name, str) or not name or name in self._attached:
            known = f"; attached are {', '.join(self.names)}" if self.names else ""
            raise InputError(
                f'An adapter has a name of its own that is not "". Received: {name!r}{known}.'
            )
        if isinstance(adapter, Mapping):
            self._attached[name] = self._sum(adapter, head)
        elif head is not None:
            raise InputError(f"Only a sum borrows a head. Received: {adapter}, head={head!r}.")
        else:
            pipe = self._base.read(adapter)
            self._check_task(pipe.task, os.fspath(adapter))
            self._attached[name] = self._parts(pipe)
        self._together = None

    def detach(self, name: str) -> None:
        """Take an adapter away; `InputError` if there is none of that name."""
        self._known(name)
        if not name:
            raise InputError('The base, "", cannot be detached. Received: "".')
        del self._attached[name]
        self._together = None

    def alone(self, name: str) -> Pipeline:
        """A pipeline of its own, with a copy of the base, in which one adapter is all there is.

        Raises:
            InputError: if there is no such adapter, or it is a sum.
        """
        own = self._known(name)
        if own.method is None:
            raise InputError(f"{name!r} is a sum of adapters and has no method of its own.")
        return self._filled(self._base.pipeline(own.task, own.method), own)

    @property
    def tasks(self) -> dict[str, Any]:
        """The task of each adapter, with its labels."""
        return {name: own.task for name, own in self._attached.items()}

    # --- answers --------------------------------------------------------------------------------

    def predict(self, texts: Iterable[Any], adapter: str | list[str] = "") -> list[dict[str, Any]]:
        """Answer texts, each by its adapter.

        Args:
            texts: as of `Pipeline.predict`.
            adapter: the name of an adapter, or one a text.

        Returns:
            One mapping a text; lists are filled up to the most classes of all adapters.

        Raises:
            InputError: if there is no such adapter, or not one a text.
        """
        rows = rows_of(self.task, texts, {})
        names = [adapter] * len(rows) if isinstance(adapter, str) else list(adapter)
        if len(names) != len(rows):
            raise InputError(
                f"One adapter, or one a text. Received: {len(names)} names for {len(rows)} texts."
            )
        for name in set(names):
            self._known(name)
        fields = {name: [row[name] for row in rows] for name in input_specs(self.task)}

        def answer(chosen: list[int]) -> list[dict[str, Any]]:
            part = {name: [values[i] for i in chosen] for name, values in fields.items()}
            return told(self.task, self.arrays(part, [names[i] for i in chosen]))

        return in_batches([*fields.values()], self._base.pipe.batch_size, answer)

    def arrays(self, fields: dict[str, list], names: str | list[str]) -> dict[str, Any]:
        """What one batch of rows is answered, each by its adapter, or all by one."""
        given = tensors_of(fields, input_specs(self.task))
        rows = len(next(iter(fields.values())))
        return self._built().asked(*given.values(), tf.broadcast_to(names, [rows]))

    def export(
        self, folder: Any, version: int | None = None, run: Any = None, int8: bool = False
    ) -> str:
        """Write one SavedModel `folder/version/` of all adapters, and compare its answers.

        Every signature takes `adapter`, string [batch], too; see `Pipeline.export`. An unknown
        name is answered "" and 0 in its row alone. What `serving_default` answers is compared with
        each adapter's own pipeline, of a sum with this set.

        Raises:
            InputError: if the version exists, or for `int8`, which single models are exported in.
        """
        from kerasft.export import export_saved_model

        return export_saved_model(self.pipe, folder, version, self, run, int8)

    # --- for the export -------------------------------------------------------------------------

    @property
    def pipe(self) -> Pipeline:
        """The pipeline in which every row takes the adapter that `by_adapter` has chosen."""
        return self._built().pipe

    @property
    def task(self) -> Any:
        """The task of the base, which reads the texts of all."""
        return self._base.pipe.task

    @property
    def variables(self) -> list[Any]:
        """What all adapters hold beside the base, [adapters, ...] each."""
        return self._built().routes.variables

    def by_adapter(self, function: Any, specs: list[Any]) -> tuple[Any, list[Any]]:
        """A function of tensors that takes `adapter` too, and what it takes."""
        return self._built().by_adapter(function, specs)

    def classes(self, values: list[Any]) -> Any:
        """The classes of rows, string [batch, most], by their adapter, the last of the values."""
        return self._built().classes(values[-1])

    def each(self) -> Iterator[tuple[str, Callable[[dict[str, list]], dict[str, Any]]]]:
        """Each adapter, and what answers rows with it alone (see `Pipeline.arrays`), until the next
        one is asked for. A sum has no pipeline of its own: it is answered by this set."""
        for name, own in self._attached.items():
            if own.method is not None:
                yield name, self._filled(self._base.held(own.task, own.method), own).arrays
            else:
                yield name, partial(self.arrays, names=name)

    # --- parts ----------------------------------------------------------------------------------

    def _built(self) -> "_Together":
        if self._together is None:
            self._together = _Together(self._base.pipeline(self.task, "full"), self._attached)
        return self._together

    def _known(self, name: str) -> _Attached:
        if name not in self._attached:
            raise InputError(
                f"There is no such adapter. Received: {name!r}. Attached: "
                f"{', '.join(self.names) or 'none'}." + nearest(str(name), self.names)
            )
        return self._attached[name]

    def _parts(self, pipe: Pipeline) -> _Attached:
        """What there is of a pipeline beside the base."""
        head = {v.path: np.array(v) for v in pipe.head_variables}
        return _Attached(
            pipe.task,
            pipe.model.output_shape[-1] if head else None,
            changes_of(pipe.backbone, self._base.weights),
            head,
            pipe.adapted.method_config,
            {name: np.array(v) for name, v in adapter_weights(pipe.backbone).items()},
        )

    def _filled(self, pipe: Pipeline, own: _Attached) -> Pipeline:
        """A pipeline of an adapter's task and method, with its weights."""
        set_adapter_weights(pipe.backbone, own.weights, "the adapter")
        for variable in pipe.head_variables:
            variable.assign(own.head[variable.path])
        return pipe

    def _check_task(self, task: Any, path: str) -> None:
        here, there = tasks.config(self.task), tasks.config(task)
        for key in sorted({*here, *there} - {*_ANSWERS, *_TRAINING}):
            if here.get(key) != there.get(key):
                raise InputError(
                    "All adapters read texts as the base does. Expected: "
                    f"task.{key}={here.get(key)!r}. Received: {there.get(key)!r} in {path}."
                )

    def _sum(self, shares: Mapping[str, float], head: str | None) -> _Attached:
        parts, amounts = [self._known(name) for name in shares], [*shares.values()]
        numbers = all(isinstance(v, (int, float)) and np.isfinite(v) for v in amounts)
        if not parts or not numbers:
            raise InputError(
                f"A sum has adapters and weights, which are numbers. Received: {dict(shares)!r}."
            )
        lent = self._known(head) if head is not None else None
        if lent is None and (min(amounts) < 0 or sum(amounts) <= 0):
            raise InputError(
                "A mean of heads needs weights that are not below 0. Received: "
                f"{dict(shares)!r}. Give `head`, the adapter whose head the sum takes."
            )
        task, width = (lent or parts[0]).task, (lent or parts[0]).width
        if lent is None and any(_labels(part.task) != _labels(task) for part in parts):
            raise InputError(
                "A mean of heads needs the same labels in the same order. Received: "
                f"{', '.join(str(list(_labels(p.task))) for p in parts)}. Give `head`."
            )
        keys = sorted({key for part in parts for key in part.changes})
        own = {k: summed([p.changes.get(k, Change()) for p in parts], amounts) for k in keys}
        if lent is not None:
            return _Attached(task, width, own, lent.head)
        heads = {p: np.average([q.head[p] for q in parts], 0, amounts) for p in parts[0].head}
        return _Attached(task, width, own, heads)


class _Together:
    """The base with the tables of all adapters; see `AdapterSet`."""

    def __init__(self, pipe: Pipeline, attached: Mapping[str, _Attached]):
        self.names, own = list(attached), list(attached.values())
        self.own = own
        layers = {key: layer for key, (layer, _) in own_weights(pipe.backbone).items()}
        heads, changed = _heads(pipe, own)
        changes = [part.changes | head for part, head in zip(own, changed, strict=True)]
        self.routes = Routes(layers | heads, changes)
        task = _OwnTask(pipe.task, own, self.routes)
        self.pipe = Pipeline(pipe.model, pipe.tokenizer, task, pipe.info)
        self.pipe.by_place = True  # which adapter it takes
        specs = input_specs(pipe.task)

        def answers(*values: Any) -> dict[str, Any]:
            return self.pipe.answers(dict(zip(specs, values, strict=True)))

        function, given = self.by_adapter(answers, list(specs.values()))
        self.asked = tf.function(function, input_signature=given, autograph=False)

    def by_adapter(self, function: Any, specs: list[Any]) -> tuple[Any, list[Any]]:
        """See `AdapterSet.by_adapter`."""

        def chosen(*values: Any) -> dict[str, Any]:
            *given, adapter = values
            rows = tf.shape(given[0])[0]
            tf.debugging.assert_equal(tf.shape(adapter)[0], rows, "`adapter` names one a row.")
            known, index = self._numbers(adapter)
            with self.routes.rows(index):
                found = function(*given)
            return {
                name: _only(tf.convert_to_tensor(value), known, self.pipe.task.fill(name, value))
                for name, value in found.items()
            }

        return chosen, [*specs, tf.TensorSpec([None], tf.string, name="adapter")]

    def _numbers(self, adapter: Any) -> tuple[Any, Any]:
        """Which names of adapters there are, and their places, 0 for others."""
        same = adapter[:, None] == tf.constant(self.names)[None]
        return tf.reduce_any(same, 1), tf.argmax(same, 1, tf.int32)

    def classes(self, adapter: Any) -> Any:
        """The labels of the tasks that rows of adapters ask, filled up with ""."""
        every = [_labels(part.task) for part in self.own]
        table = tf.ragged.constant([*map(list, every), []], tf.string).to_tensor("")
        known, index = self._numbers(adapter)
        return tf.gather(table, tf.where(known, index, len(every)))


class _OwnTask:
    """A task whose answers are those of each row's own task.

    Args:
        task: the task that reads the texts.
        own: the adapters.
        routes: says whose the rows are, and is told whose the sequences are.
    """

    def __init__(self, task: Any, own: list[_Attached], routes: Routes):
        self._task, self._routes = task, routes
        configs = [repr(_answered(part.task)) for part in own]
        distinct = list(dict.fromkeys(configs))
        self._kinds = [own[configs.index(config)] for config in distinct]
        self._group = [distinct.index(config) for config in configs]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def encode(self, tokenizer: Any, fields: dict[str, Any]) -> dict[str, Any]:
        """As the task; a text in windows has its adapter in each of them."""
        features = self._task.encode(tokenizer, fields)
        if "row" in features and self._task.sides is not None:
            self._routes.choose(tf.gather(self._routes.row, features["row"]))
        return features

    def decode(self, outputs: Any, features: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answers of each row's own task, filled up to the longest."""
        if len(self._kinds) == 1:
            return self._kinds[0].task.decode(outputs, features)
        group = tf.gather(tf.constant(self._group), self._routes.row)
        found = [self._part(n, group, outputs, features) for n in range(len(self._kinds))]
        return {
            name: _picked([p[name] for p in found], group, self.fill(name, found[0][name]))
            for name in found[0]
        }

    def fill(self, name: str, value: Any) -> Any:
        """What stands in an output where nothing is said: "" or 0, in lists of places -1."""
        places = name in getattr(self._task, "padded", ()) and value.dtype.is_integer
        return tf.cast(-1, value.dtype) if places else tf.zeros([], value.dtype)

    def _part(self, number: int, group: Any, outputs: Any, features: Any) -> dict[str, Any]:
        """The answers of one task to all rows, or nothing where no row asks it."""
        kind = self._kinds[number]

        def answered() -> dict[str, Any]:
            found = kind.task.decode(outputs[..., : kind.width], features)
            return {name: tf.convert_to_tensor(value) for name, value in found.items()}

        def none() -> dict[str, Any]:
            rows = tf.shape(group)[0]
            return {
                name: tf.fill([rows, *(n or 0 for n in spec.shape[1:])], self.fill(name, spec))
                for name, spec in shapes.items()
            }

        shapes = tf.function(answered).get_concrete_function().structured_outputs
        return tf.cond(tf.reduce_any(group == number), answered, none)


def _heads(pipe: Pipeline, own: list[_Attached]) -> tuple[dict, list[dict[str, Change]]]:
    """The layers of the head that differ between adapters by key, and the changes of each."""
    inside = {id(v) for v in pipe.head_variables}
    layers: dict[str, Any] = {}
    changes: list[dict[str, Change]] = [{} for _ in own]
    for key, (layer, variables) in own_weights(pipe.model).items():
        paths = {name: path for name, (path, v) in variables.items() if id(v) in inside}
        values = [{name: part.head[path] for name, path in paths.items()} for part in own]
        for name, (_, variable) in variables.items() if paths else ():
            variable.assign(values[0][name])
        if all(_same(value, values[0]) for value in values):
            continue
        if not {"kernel"} <= set(paths) <= {"kernel", "bias"} or len(layer.kernel.shape) != 2:
            raise InputError(
                "The heads of adapters differ in dense layers alone. Received: heads that differ "
                f"in {layer.name}, a {type(layer).__name__}. Serve these models on their own."
            )
        layers[f"head/{key}"] = layer
        for change, value in zip(changes, values, strict=True):
            change[f"head/{key}"] = Change(kernel=value["kernel"], shift=value.get("bias"))
    return layers, changes


def _same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(value, other[name]) for name, value in one.items())


def _labels(task: Any) -> tuple[str, ...]:
    return tuple(getattr(task, "labels", ()))


def _answered(task: Any) -> dict[str, Any]:
    """What of a task's configuration its answers depend on."""
    return {k: v for k, v in tasks.config(task).items() if k not in _TRAINING}


def _only(value: Any, known: Any, fill: Any) -> Any:
    """A value's rows that are known, the others filled."""
    rows = tf.reshape(known, [-1] + [1] * (value.shape.rank - 1))
    return tf.where(rows, value, fill)


def _picked(parts: list[Any], group: Any, fill: Any) -> Any:
    """Of several answers to each row that of its group; shorter ones are filled up."""
    sizes = tf.reduce_max(tf.stack([tf.shape(part) for part in parts]), axis=0)
    full = []
    for part in parts:
        missing = tf.stack([tf.zeros_like(sizes), sizes - tf.shape(part)], 1)
        full.append(tf.pad(part, missing, constant_values=fill))
    return tf.gather(tf.stack(full, 1), group, axis=1, batch_dims=1)

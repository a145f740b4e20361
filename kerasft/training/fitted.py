"""The one `keras.Model` with a loss of its own: exact means over rows, and objectives."""

from itertools import pairwise
from typing import Any

from kerasft._core import stack
from kerasft.backbones._surgery import leave_first_batch, leave_replicas

stack.ensure()
import keras  # noqa: E402  (after the backend is chosen)
import tensorflow as tf  # noqa: E402


class Fitted(keras.Model):
    """A functional model, its task's loss and further training signals, ready for `fit`.

        loss = sum_rows (l_task + sum_i weight_i l_i) / rows in the global batch

    The sum is divided by the rows of all replicas together, so a short last batch and a batch
    that splits unevenly count every row once. Where every token is learned, a row's loss is the
    mean over its tokens and its sample weight their number, so every token counts once. It shares
    the weights of the model it wraps.

    Args:
        model: the functional `keras.Model` of `task.build`.
        row_loss: a Keras loss whose `call(y, y_pred)` gives one value a row.
        objectives: bound objectives, each with a `weight` and `(forward, x, y, y_pred) -> [batch]`.
        watch: what the method does at every step (see `kerasft.methods.watch_of`), or None. Its
            penalty is trained on; the loss that is shown is without it.
        parts: in how many parts the rows of a step go through the model, one after another; their
            gradients are added up, which is the gradient of the whole batch.
    """

    def __init__(
        self,
        model: Any,
        row_loss: Any,
        objectives: tuple[Any, ...] = (),
        watch: Any = None,
        parts: int = 1,
    ):
        super().__init__(name="fitted")
        self.model, self.row_loss, self.objectives = model, row_loss, objectives
        self.watch, self.parts = watch, parts
        self.shown = ()

    @property
    def running(self) -> list[Any]:
        """The variables of the running loss and metrics of an epoch."""
        return [v for metric in (self.metrics[0], *self.shown) for v in metric.variables]

    def call(self, inputs, training=None):
        """Run the wrapped model; an example of several sequences [batch, sides, length] as so many.

        Then the outputs are [batch, sides, ...].
        """
        first = inputs["token_ids"]
        ranks = {i.name: len(i.shape) for i in self.model.inputs}
        if first.shape.rank == ranks["token_ids"]:
            return self.model(inputs, training=training)
        flat = {n: tf.reshape(v, (-1, tf.shape(v)[2], *v.shape[3:])) for n, v in inputs.items()}
        out = self.model(flat, training=training)
        return tf.reshape(out, (-1, first.shape[1], *out.shape[1:]))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The mean over the rows of the global batch."""
        total, count = self._summed(x, y, y_pred, sample_weight, training)
        return self._mean(total, count)

    def train_step(self, data):
        """One update."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        count = _weight_of(x, sample_weight)
        gradients, total, y_pred = [], 0.0, []
        for number, part in enumerate(_split((x, y, sample_weight), self.parts)):
            own, own_gradients, said = self._gradients(*part, count, first=number == 0)
            total += own
            y_pred.append(said)
            gradients.append(own_gradients)
        # What the head does not read has none: a pooler, a decoder's own output embeddings.
        known = [
            (own[0] if len(own) == 1 else tf.add_n(own), v)
            for own, v in zip(zip(*gradients), self.trainable_weights)
            if own[0] is not None
        ]
        summed = _over_replicas([g for g, _ in known])
        pairs = list(zip(summed, [v for _, v in known]))
        scale = self.optimizer.scale_loss(1.0)  # read now: the optimizer changes it
        self.optimizer.apply_gradients(pairs)
        if self.watch is not None:
            self.watch.after([(g / scale, v) for g, v in pairs])
        said = y_pred[0] if len(y_pred) == 1 else tf.concat(y_pred, 0)
        return self._shown(total, count, x, y, said, sample_weight)

    def _gradients(self, x, y, sample_weight, count, first):
        """Summed loss of some rows, its gradients as a share of the batch's mean, the outputs."""
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            total, _ = self._summed(x, y, y_pred, sample_weight, training=True)
            loss = self._mean(total, count)
            if self.watch is not None and first:
                # Every replica has the whole penalty, and their gradients are summed.
                loss += self.watch.penalty() / _replicas()
            loss = self.optimizer.scale_loss(loss)
        variables = self.trainable_weights
        found = tape.gradient(loss, variables)
        return total, [g if g is None else _dense(g, v) for g, v in zip(found, variables)], y_pred

    def test_step(self, data):
        """Loss and metrics of one batch."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self(x, training=False)
        total, count = self._summed(x, y, y_pred, sample_weight, training=False)
        return self._shown(total, count, x, y, y_pred, sample_weight)

    def _summed(self, x, y, y_pred, sample_weight, training):
        """Sum of the weighted losses of this replica's rows, and sum of the weights."""
        rows = tf.cast(self.row_loss.call(y, y_pred), tf.float32)
        if training:
            for objective in self.objectives:
                rows += objective.weight * tf.cast(objective(self, x, y, y_pred), tf.float32)
        weight = tf.ones_like(rows) if sample_weight is None else tf.cast(sample_weight, rows.dtype)
        return tf.reduce_sum(rows * weight), tf.reduce_sum(weight)

    def _mean(self, total, count):
        return total / tf.maximum(_over_replicas(count), 1e-12)

    def _shown(self, total, count, x, y, y_pred, sample_weight):
        """Running loss and metrics. A replica with fewer rows than another weighs less."""
        self.metrics[0].update_state(total / tf.maximum(count, 1e-12), sample_weight=count)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def _weight_of(x: Any, sample_weight: Any) -> Any:
    """The sum of the weights of the rows, which weigh 1 where none is given."""
    if sample_weight is not None:
        return tf.reduce_sum(tf.cast(sample_weight, tf.float32))
    return tf.cast(tf.shape(next(iter(x.values())))[0], tf.float32)


def _split(data: Any, parts: int) -> list[Any]:
    """A structure of [rows, ...] in so many parts of nearly as many rows."""
    if parts == 1:
        return [data]
    rows = tf.shape(tf.nest.flatten(data)[0])[0]
    edges = [number * rows // parts for number in range(parts + 1)]
    return [
        tf.nest.map_structure(lambda v, a=a, b=b: v if v is None else v[a:b], data)
        for a, b in pairwise(edges)
    ]


def _replicas() -> int:
    """How many replicas make a step together."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def _over_replicas(values: Any) -> Any:
    """The sum over all replicas."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return values
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, values)


def _dense(gradient: Any, variable: Any) -> Any:
    """The gradient of an embedding as one row a token.

    It comes as one row a position. Keras squares these before it adds them, for the norm as for
    Adam's second moment, so a token that stands twice in a batch would move too far.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])


def compiled(
    model: Any,
    task: Any,
    optimizer: Any,
    objectives: tuple[Any, ...] = (),
    watch: Any = None,
    parts: int = 1,
) -> Fitted:
    """Wrap and compile a task's model; call it inside the strategy's scope."""
    loss = task.loss()
    fitted = Fitted(model, loss, objectives, watch, parts)
    fitted.shown = task.metrics()
    fitted.compile(optimizer=optimizer, loss=loss, metrics=fitted.shown)
    # Built now, so that a checkpoint finds every variable before the first step.
    fitted.build({i.name: i.shape for i in model.inputs})
    optimizer.build(model.trainable_variables)
    leave_first_batch(fitted)
    leave_replicas(optimizer)
    return fitted

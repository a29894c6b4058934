"""Keras's `fit` as a loop of `strategy.run`, which works where `fit` does not.

`fit` fails under `MultiWorkerMirroredStrategy` (keras-team/keras#20585). Here each replica runs the
model's own `train_step` on its part of the batch.
"""

import keras
import tensorflow as tf


def fit(
    model,
    strategy,
    batches,
    *,
    steps_per_epoch,
    epochs,
    initial_epoch=0,
    validation_data=None,
    callbacks=(),
    verbose="auto",
):
    """Trains a compiled model.

    Args:
        model: Built in the strategy's scope. A `step_cycle()` gives its steps, where there are
            several kinds that take turns; else each is its `train_step`.
        strategy: `MirroredStrategy` or `MultiWorkerMirroredStrategy`.
        batches: `tf.data.Dataset` of batches for all replicas together, the same on all workers.
            Each replica takes its own part.
        steps_per_epoch: Batches in an epoch.
        epochs: Number of the last epoch + 1.
        initial_epoch: Number of the first epoch.
        validation_data: `tf.data.Dataset` of batches. Every replica measures all of them, so that
            the figures are those of one device whatever the number of replicas.
        callbacks: Keras's.
        verbose: As of `fit`.

    Returns:
        The `keras.callbacks.History`. Its figures are means over the replicas.
    """
    _build(model, strategy, batches)
    cycle = model.step_cycle() if hasattr(model, "step_cycle") else [model.train_step]
    steps = {step: _on_replicas(strategy, step) for step in dict.fromkeys(cycle)}
    test_step = _on_replicas(strategy, model.test_step)
    average = tf.function(lambda: strategy.run(_average_statistics, (model,)), autograph=False)
    callbacks = keras.callbacks.CallbackList(
        list(callbacks),
        add_history=True,
        add_progbar=verbose != 0,
        verbose=1 if verbose == "auto" else verbose,
        epochs=epochs,
        steps=steps_per_epoch,
        model=model,
    )
    iterator = iter(_own_parts(strategy, batches))
    callbacks.on_train_begin()
    logs = {}
    for epoch in range(initial_epoch, epochs):
        model.reset_metrics()
        callbacks.on_epoch_begin(epoch)
        for batch in range(steps_per_epoch):
            callbacks.on_train_batch_begin(batch)
            turn = (epoch * steps_per_epoch + batch) % len(cycle)
            logs = steps[cycle[turn]](iterator)
            callbacks.on_train_batch_end(batch, logs)
        average()
        if validation_data is not None:
            validation_logs = _evaluate(model, strategy, test_step, validation_data, callbacks)
            logs = {**logs, **{f"val_{name}": value for name, value in validation_logs.items()}}
        callbacks.on_epoch_end(epoch, logs)
    callbacks.on_train_end(logs)
    return model.history


def _build(model, strategy, batches):
    """Makes what Keras makes in the first step, where no replica can; tells dropouts apart."""
    if type(model).train_step is keras.Model.train_step:
        model._maybe_symbolic_build(data_batch=next(iter(batches)))
    with strategy.scope():
        if model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
    tf.function(lambda: strategy.run(_separate_seeds, (model,)), autograph=False)()


def _trained_layers(model):
    return [layer for layer in model._flatten_layers() if layer.trainable]


def _separate_seeds(model):
    """Gives each replica's dropouts other random numbers: they keep a seed and a counter each."""
    place = tf.distribute.get_replica_context().replica_id_in_sync_group
    for layer in _trained_layers(model):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            state = generator.state.value
            state.assign(state + tf.cast(tf.stack([place, 0]), state.dtype))


def _average_statistics(model):
    """Gives all replicas the mean of their batch normalisations' moving statistics.

    Each keeps its own, of its part of the batches. The mean of moving averages is the moving
    average of the means, so once an epoch is as good as after each step.
    """
    context = tf.distribute.get_replica_context()
    for layer in _trained_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            for variable in (layer.moving_mean, layer.moving_variance):
                # The identity is on the replica's device; what is read from a variable may not be.
                own = tf.identity(tf.convert_to_tensor(variable))
                variable.assign(context.all_reduce("MEAN", own))


def _on_replicas(strategy, step):
    """Returns a function of an iterator that runs a step on every replica and returns its logs."""
    names = []

    def vector_of_logs(data):
        logs = step(data)
        names[:] = logs
        return tf.stack([tf.cast(value, tf.float32) for value in logs.values()])

    # Never XLA, which drops the assertions of `losses.require_gradient`.
    @tf.function(autograph=False, jit_compile=False, reduce_retracing=True)
    def run(iterator):
        return strategy.reduce("MEAN", strategy.run(vector_of_logs, (next(iterator),)), axis=None)

    return lambda iterator: dict(zip(names, run(iterator).numpy().tolist(), strict=True))


def _own_parts(strategy, batches):
    """Returns the batches dealt out: to each replica its own equal part of every batch."""

    def of_worker(context):
        workers, worker = context.num_input_pipelines, context.input_pipeline_id
        replicas = context.num_replicas_in_sync // workers

        def split(*batch):
            parts = [tf.reshape(part, (workers, replicas, -1, *part.shape[1:])) for part in batch]
            return tuple(part[worker] for part in parts)

        # Endless, or the workers would ask each other before each step whether there is one more.
        return batches.map(split).unbatch().repeat().prefetch(2 * replicas)

    return strategy.distribute_datasets_from_function(of_worker)


def _evaluate(model, strategy, test_step, batches, callbacks):
    def of_worker(context):
        replicas = context.num_replicas_in_sync // context.num_input_pipelines
        copies = batches.interleave(
            lambda *batch: tf.data.Dataset.from_tensors(batch).repeat(replicas), cycle_length=1
        )
        return copies.repeat()

    model.reset_metrics()
    callbacks.on_test_begin()
    iterator = iter(strategy.distribute_datasets_from_function(of_worker))
    logs = {}
    for batch in range(int(batches.cardinality())):
        callbacks.on_test_batch_begin(batch)
        logs = test_step(iterator)
        callbacks.on_test_batch_end(batch, logs)
    callbacks.on_test_end(logs)
    return logs

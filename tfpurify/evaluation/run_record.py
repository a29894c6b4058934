"""What a training run measures of its own model at its end."""

import json

from absl import logging

from tfpurify.evaluation import records
from tfpurify.evaluation.rates import evaluate


def evaluate_run(run, classifier, purifier=None, fields=None, **attack):
    """Returns a training run's record on the test split, one cell of a table, and writes it.

    Args:
        run: A `tfpurify.training.runner.Run`.
        classifier: Bare classifier.
        purifier: In front of it, or None.
        fields: The record's fields that this run knows.
        **attack: `attack`, `epsilon` and `target_class` of `tfpurify.evaluate`.
    """
    rates = evaluate(
        run.images.batches("test", run.config["eval_examples"]),
        classifier,
        purifier=purifier,
        **attack,
    )
    record = records.make_record(
        rates,
        dataset=run.config["dataset"],
        data_source=run.images.source,
        split="test",
        classifier=run.config["classifier"],
        seed=run.config["seed"],
        **(fields or {}),
    )
    records.write_records(run.folder / "record.jsonl", [record])
    logging.info("%s: %s", run.name, json.dumps(record, sort_keys=True))
    return record

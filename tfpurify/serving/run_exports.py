"""What the run of a purifier measures and exports at its end."""

from tfpurify.evaluation.run_record import evaluate_run
from tfpurify.purifiers.purified_classifier import PurifiedClassifier
from tfpurify.serving import saved_model
from tfpurify.training import naming


def measure_and_export_purifier(run, classifier, purifier, name=None, purifier_name=None):
    """Writes a purifier's record, and it as a bundle of its own and before the classifier.

    Args:
        run: A `tfpurify.training.runner.Run`.
        classifier: The classifier behind it.
        purifier: What the run made.
        name: What the defence's bundle is called before `_CLASSIFIER`; the run's name if None.
        purifier_name: Of the bundle of the purifier alone; `name` if None.
    """
    name = name or run.name
    evaluate_run(
        run, classifier, purifier, {"purifier": naming.purifier_of(run.trainer, run.config)}
    )
    run.export(saved_model.export_purifier, purifier, purifier_name or name, is_serving=False)
    purified = PurifiedClassifier(purifier, classifier)
    purified.build()
    bundle = f"{name}_{run.config['classifier']}"
    run.export(saved_model.export_purified_classifier, purified, bundle)

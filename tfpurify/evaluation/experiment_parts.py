"""The trained parts of a data set's experiments, each loaded and traced once."""

from pathlib import Path

from tfpurify.evaluation import experiments
from tfpurify.evaluation.observed_purifier import ObservedPurifier
from tfpurify.models import zoo
from tfpurify.models.tracing import trace_classifier
from tfpurify.training import trained_parts


class ExperimentParts:
    """What experiments are made of, by role: loaded when it is first asked for, and then kept.

    Args:
        dataset: Name of the data set.
        options: `trainers.reproduce`'s flags. With `retrain` the runs of `output_dir` go before the
            zoo; with `transfer` they stand in for what the zoo lacks.
    """

    def __init__(self, dataset, options):
        self.by_role = experiments.parts(dataset, options["transfer"])
        self._options = options
        self._loaded, self._purifiers, self._observed, self._traced = {}, {}, {}, {}

    def missing(self):
        """Returns the parts that were not trained yet."""
        trained = set(zoo.available())
        if self._options["retrain"] or self._options["transfer"]:
            runs = Path(self._options["output_dir"]).glob("runs/*/model.keras")
            trained |= {path.parent.name for path in runs}
        return [part for part in self.by_role.values() if part.name not in trained]

    def lacking(self, roles):
        """Returns the names of those parts, by role, that were not trained yet."""
        missing = self.missing()
        return [self.by_role[role].name for role in roles if self.by_role[role] in missing]

    def load(self, role):
        """Returns the trained model of a role."""
        if role not in self._loaded:
            part = self.by_role[role]
            self._loaded[role] = trained_parts.load_part(part, self._folder_of(part))
        return self._loaded[role]

    def describe(self, role):
        """Returns the seed and the gradient mode with which a part was trained, among others."""
        part = self.by_role[role]
        return trained_parts.describe(part.name, self._folder_of(part))

    def _folder_of(self, part):
        """Returns the folder whose run of a part is measured, or None for the zoo's."""
        is_needed = self._options["transfer"] and part.name not in zoo.available()
        return self._options["output_dir"] if self._options["retrain"] or is_needed else None

    @property
    def classifier(self):
        """The bare classifier."""
        return self.load("classifier")

    def purifier(self, name):
        """Returns a purifier as it is served, or None for `none`."""
        if name == "none":
            return None
        if name not in self._purifiers:
            prior = self.load("defensegan") if name == "defensegan_fast" else None
            self._purifiers[name] = trained_parts.as_purifier(self.load(name), prior)
        return self._purifiers[name]

    def observed(self, name):
        """Returns a purifier that tells how far it moves images, or None for `none`."""
        if name != "none" and name not in self._observed:
            self._observed[name] = ObservedPurifier(self.purifier(name))
        return self._observed.get(name)

    def traced_classifier(self, role="classifier"):
        """Returns a classifier, traced once for all experiments and batch sizes."""
        if role not in self._traced:
            self._traced[role] = trace_classifier(self.load(role))
        return self._traced[role]

    def served(self, name):
        """Returns the bare classifier behind a purifier as it is served: images -> logits."""
        classify = self.traced_classifier()
        if name == "none":
            return classify
        purify = self.observed(name).purify
        return lambda images: classify(purify(images))

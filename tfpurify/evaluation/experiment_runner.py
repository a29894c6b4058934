"""Measures the study's experiments on one data set, from trained parts."""

from tfpurify import provenance
from tfpurify.data import loading
from tfpurify.evaluation import comparisons, distances, experiments, records
from tfpurify.evaluation.experiment_attacks import ExperimentAttacks
from tfpurify.evaluation.experiment_parts import ExperimentParts
from tfpurify.evaluation.image_rows import make_image_rows
from tfpurify.evaluation.progress import Progress
from tfpurify.evaluation.rates import evaluate
from tfpurify.evaluation.records import update_records
from tfpurify.registry import DEFENCES
from tfpurify.vocabulary import (
    DEFENSE_MODES,
    STUDY_CLASSIFIERS,
    display,
    display_attack,
)


class ExperimentRunner:
    """The experiments on one data set.

    Args:
        dataset: Name of the data set.
        options: `trainers.reproduce`'s flags.
    """

    def __init__(self, dataset, options):
        self.dataset = dataset
        self.options = options
        self.parts = ExperimentParts(dataset, options)
        self.distances = []

    def run(self, show=lambda purifier, records: None):
        """Measures every experiment whose parts are there, and fills `distances`.

        Args:
            show: Called with a purifier and its records, as soon as its last one is measured.

        Returns:
            The records; none if the classifier is missing.
        """
        jobs = self._jobs()
        if not jobs:
            return []
        self.source = loading.resolve_source(
            self.dataset, self.options["data_dir"], self.options["data_source"]
        )
        self.images = loading.load_dataset(
            self.dataset, "test", self.options["data_dir"], self.source
        )
        progress = Progress(len(jobs))
        found = []
        for place, (experiment, mode) in enumerate(jobs):
            progress.begin(f"{self.dataset}, {_title(experiment, mode)}")
            moved = len(self.distances)
            found.append(self._measure(experiment, mode))
            fresh = [found[-1], *_raise_flags(found)]
            if self.options["results_file"]:
                update_records(self.options["results_file"], fresh, self.distances[moved:])
            purifier = experiment.purifier
            if purifier not in {job.purifier for job, _ in jobs[place + 1 :]}:
                show(purifier, [record for record in found if record["purifier"] == purifier])
        return found

    def _jobs(self):
        """Returns pairs of an experiment and PGD's gradient mode, purifier after purifier."""
        asked = self.options["pgd_modes"]
        found = [
            (experiment, None)
            for experiment in experiments.advgan_experiments(self.dataset, self.options["transfer"])
        ]
        if self.options["pgd_steps"]:
            found += [
                (experiment, mode)
                for experiment in experiments.pgd_experiments(self.dataset)
                for mode in DEFENSE_MODES[experiment.purifier]
                if not asked or mode in asked
            ]
        if self.options["worst_case_steps"]:
            found += [
                (experiment, None)
                for experiment in experiments.worst_case_experiments(self.dataset)
            ]
        found = [job for job in found if self.is_measured(job[0])]
        order = list(dict.fromkeys(experiment.purifier for experiment, _ in found))
        return sorted(found, key=lambda job: order.index(job[0].purifier))

    def is_measured(self, experiment):
        """Says whether an experiment's purifier is asked for, and its parts are all trained."""
        is_asked = experiment.purifier in (self.options["purifiers"] or [experiment.purifier])
        return is_asked and not self.parts.lacking(experiment.roles)

    def count(self, experiment):
        """Returns the number of test images of an experiment."""
        limits = [int(self.images.cardinality()), self.options["limit"]]
        if experiment.purifier == "defensegan":
            limits.append(self.options["defensegan_limit"])
        elif experiment.purifier in ("defensegan_wide", "defensegan_wgan"):
            limits.append(self.options["prior_limit"])
        if experiment.attack in ("pgd", "worst_case"):
            limits.append(self.options[f"{experiment.attack}_limit"])
        return min(limit for limit in limits if limit is not None)

    def image_rows(self):
        """Returns a figure's rows: one image of each class, clean, attacked and purified."""
        return make_image_rows(self.dataset, self.images, self.parts, self.is_measured)

    def _measure(self, experiment, mode):
        attacks = ExperimentAttacks(self.dataset, self.options, self.parts)
        purifier = self.parts.observed(experiment.purifier)
        kind = experiment.purifier.partition("_")[0]  # of a transfer's too
        batch_size = DEFENCES[kind].batch_size
        batches = self.images.take(self.count(experiment)).batch(batch_size)
        if purifier is not None:
            purifier.reset()
            batches = purifier.watch(batches)
        fields = {"data_source": self.source, "split": "test"}
        if experiment.attack == "worst_case":
            return attacks.measure_worst_case(experiment, batches, **fields)
        attack, epsilon, found = attacks.make(experiment, mode)
        rates = evaluate(
            batches,
            self.parts.traced_classifier(experiment.classifier),
            purifier=purifier,
            attack=attack,
            epsilon=epsilon,
        )
        record = records.make_record(
            rates,
            dataset=self.dataset,
            classifier=experiment.architecture or STUDY_CLASSIFIERS[self.dataset],
            purifier=experiment.purifier,
            threat_model=experiment.threat_model,
            attack=experiment.attack,
            command=provenance.portable_command(provenance.command_line()),
            **fields,
            **found,
        )
        is_blind = (experiment.threat_model, experiment.attack) == ("blind", "advgan")
        if is_blind and experiment.architecture is None:
            errors = {kind: purifier.errors(kind) for kind in ("clean", "adversarial")}
            seconds = purifier.seconds_per_image()
            self.distances.append(distances.make_distances(record, errors, seconds))
        return record


def _title(experiment, mode):
    """Returns what is measured, as a line of the log says it."""
    if experiment.attack == "none":
        return "clean accuracy"
    purifier = "no defence" if experiment.purifier == "none" else display(experiment.purifier)
    return f"{experiment.threat_model}, {purifier}, {display_attack(experiment.attack, mode)}"


def _raise_flags(found):
    """Adds the flags that need two records, and returns the records that have a new one."""
    flagged = []
    for record, flag in comparisons.compare_records(found):
        if flag not in record["checks"]:
            record["checks"].append(flag)
            flagged.append(record)
    return flagged

"""What a purifier buys a classifier: trained, attacked and measured within so many minutes."""

import dataclasses
import importlib.util
import json
import time
from pathlib import Path

import numpy as np
from absl import logging

from tfpurify.data import loading, own
from tfpurify.evaluation import records
from tfpurify.evaluation.attack_measurement import measure_attack
from tfpurify.evaluation.attacks_by_name import Settings
from tfpurify.evaluation.defences import load_defence
from tfpurify.evaluation.rates import evaluate
from tfpurify.evaluation.retraining import is_finished
from tfpurify.evaluation.time_shares import TimeShares, until
from tfpurify.evaluation.timed_training import train_within
from tfpurify.evaluation.trained_advgans import load_advgans
from tfpurify.files import write_aside
from tfpurify.training import own_classifier, trained_parts

ATTACKS = ("noise", "advgan", "pgd", "apgd_ce", "square")
_OF_ART = ("apgd_ce", "square")
FEW_IMAGES = 100  # training images of a class below which a warning is due
FEW_STEPS = 500  # of a training
_BATCH_SIZE = 25
# Of the time, so that no figure rests on few images or few steps.
_SHARES = {"bare": 1.5, "advgan": 2.5, "purifier": 8.0, "blind": 1.0, "whitebox": 6.0}
_RESERVED = 0.08  # of all the time, for the page and the bundle
_MINUTES_A_STAGE = 2.0


@dataclasses.dataclass
class Stage:
    """One piece of the job.

    Args:
        kind: A key of the shares of the time.
        what: It in words.
        run: Function of the seconds that it may take.
        is_done: Whether an earlier process did it.
    """

    kind: str
    what: str
    run: object
    is_done: bool = False


class Protection:
    """The whole job for one classifier and its images; resumable.

    Args:
        dataset: Name of the data set, registered.
        output_dir: Where `runs/` is written, and the records, in `runs/protect_DATASET`.
        epsilons: L-inf bounds of the attacks; 8/255 for colour, 0.1 for grey if empty.
        purifiers: Names of defences to train and compare; `puvae_adversarial` for grey images and
            `puvae` for coloured ones if empty.
        classifier: Name of the classifier; the data set's usual one if None.
        minutes: All the time that it may take.
        limit: Cap on the test images that are attacked.
        num_steps: Steps of the gradient attacks.
        data_dir: As for `load_dataset`.
        data_source: The same.
        seed: Of the trainings and the attacks.
        say: Function of a line of progress.
    """

    def __init__(
        self,
        dataset,
        output_dir,
        epsilons=(),
        purifiers=(),
        classifier=None,
        minutes=30.0,
        limit=1000,
        num_steps=40,
        data_dir=None,
        data_source="auto",
        seed=0,
        say=logging.info,
    ):
        self.dataset, self.spec = dataset, loading.get_spec(dataset)
        is_grey = self.spec.image_shape[-1] == 1
        self.purifiers = tuple(purifiers) or ("puvae_adversarial" if is_grey else "puvae",)
        self.epsilons = tuple(epsilons) or ((0.1,) if is_grey else (8 / 255,))
        self.architecture = classifier or self.spec.default_classifier
        self.output_dir, self.limit, self.seed = Path(output_dir), limit, seed
        self.num_steps = num_steps
        self.place = {"data_dir": data_dir, "data_source": data_source}
        self.folder = self.output_dir / "runs" / f"protect_{dataset}"
        self.path = self.folder / "records.jsonl"
        self.source = loading.resolve_source(dataset, data_dir, data_source)
        self.time = TimeShares(60 * minutes * (1 - _RESERVED), _SHARES)
        self.minutes = minutes
        self.warnings, self.trained, self.say = [], [], say
        self.records = records.read_records(self.path) if self.path.exists() else []

    def check_classifier(self):
        """Says how well the classifier does on images that it is to be defended on.

        Returns:
            Its accuracy on validation images.

        Raises:
            ValueError: If it does no better than chance.
        """
        self.classifier = trained_parts.load_classifier(
            self.dataset, self.output_dir, self.architecture
        )
        labels = np.array([int(label) for _, label in self._images("train")])
        counts = np.bincount(labels, minlength=self.spec.num_classes)
        few = [self.spec.class_names[label] for label in np.flatnonzero(counts < FEW_IMAGES)]
        if few:
            self._warn(
                f"{len(few)} of {len(counts)} classes have fewer than {FEW_IMAGES} training images "
                f"({', '.join(few[:5])}): the purifier has little to learn from"
            )
        rates = evaluate(self._images("validation").take(1000).batch(100), self.classifier)
        accuracy, n = rates["clean_accuracy"], rates["n"]
        chance = float(counts.max() / counts.sum())
        if accuracy <= chance + 2 * np.sqrt(chance * (1 - chance) / n):
            raise ValueError(
                f"The classifier must do better than the most frequent class, {chance:.1%}. "
                f"Received: right for {accuracy:.1%} of {n} validation images. Is its "
                "`image_range` right, and are its classes in the order of "
                f"{list(self.spec.class_names[:5])}?"
            )
        self.attacks = ATTACKS
        if importlib.util.find_spec("art") is None:
            self.attacks = tuple(name for name in ATTACKS if name not in _OF_ART)
            self._warn(
                "APGD-CE and Square are not tried, because the Adversarial Robustness Toolbox is "
                'not installed (`pip install -e ".[art]"`): an attacker may do better'
            )
        if min(self.limit, int(self._images("test").cardinality())) < 50:
            self._warn("There are fewer than 50 test images: every figure is vague")
        return accuracy

    def run(self):
        """Does what is left of the job, and yields each new record as soon as it is measured.

        Raises:
            ValueError: If the folder holds the job of other images or of another classifier.
            ChildProcessError: If a training fails.
        """
        self._require_same_job()
        stages = self._stages()
        left = [stage.kind for stage in stages if not stage.is_done]
        self.time.plan(left)
        if self.minutes < _MINUTES_A_STAGE * len(left):
            self._warn(
                f"{len(left)} stages in {self.minutes:g} minutes: under "
                f"{_MINUTES_A_STAGE * len(left):g} every stage is short, and they may take longer"
            )
        for index, stage in enumerate(stages, start=1):
            place = f"[{index}/{len(stages)}]"
            if stage.is_done:
                self.say(f"{place} {stage.what}: done before")
                continue
            self.say(f"{place} {stage.what}, about {self.time.left_in_words()} left in all")
            with self.time.stage(stage.kind) as seconds:
                found = stage.run(seconds)
            if found is not None:
                self.records.append(found)
                records.update_records(self.path, [found])
                yield found
        self._warn_of_short_trainings()

    def _require_same_job(self):
        """Refuses to go on with what was trained and measured of something else."""
        job = {"num_steps": self.num_steps, "seed": self.seed, "classifier": self.architecture}
        if own.is_own(self.dataset):
            job |= own.described(self.dataset)
        if own_classifier.is_own(self.architecture):
            job |= own_classifier.described(self.architecture)
        path = self.folder / "config.json"
        begun = json.loads(path.read_text(encoding="utf-8")) if path.exists() else job
        changed = [name for name in job if begun.get(name) != job[name]]
        if changed:
            name = changed[0]
            raise ValueError(
                f"`output_dir` must hold the job that is asked for. Received: {name}={job[name]}, "
                f"and in {self.folder} {name}={begun.get(name)}. Name another --output_dir"
            )
        write_aside(path, json.dumps(job, indent=2) + "\n")

    def _stages(self):
        stages = []
        for epsilon in self.epsilons:
            stages.append(self._attack_training("none", epsilon))
            stages.append(self._attacks("none", "whitebox", epsilon))
        for purifier in self.purifiers:
            parts = trained_parts.purifier_parts(purifier, self.dataset)
            stages += [self._training(part, "purifier") for part in reversed(parts)]
            for epsilon in self.epsilons:
                stages.append(self._attack_training(purifier, epsilon))
                stages.append(self._attacks(purifier, "blind", epsilon))
                stages.append(self._attacks(purifier, "whitebox", epsilon))
        return stages

    def _images(self, split):
        return loading.load_dataset(self.dataset, split, self.place["data_dir"], self.source)

    def _warn(self, words):
        self.warnings.append(words)

    # Attacks

    def _attacks(self, purifier, threat_model, epsilon):
        """Returns the stage that attacks one defence with all that its attacker has."""
        is_done = self.record(purifier, threat_model, epsilon) is not None
        kind = "bare" if purifier == "none" else threat_model
        what = "the bare classifier" if purifier == "none" else f"{purifier}, {threat_model}"
        return Stage(
            kind,
            f"attacks on {what} within {epsilon:.4g}",
            lambda seconds: self._attack(purifier, threat_model, epsilon, seconds),
            is_done,
        )

    def _attack(self, purifier, threat_model, epsilon, seconds):
        defence = load_defence(
            self.dataset, purifier, threat_model, self.output_dir, self.architecture
        )
        advgans = load_advgans(
            defence, epsilon, self.output_dir, architecture=self._other_architecture()
        )
        batches = self._images("test").take(self.limit).batch(_BATCH_SIZE)
        measured = measure_attack(
            defence,
            self.attacks,
            Settings(epsilon, num_steps=self.num_steps, seed=self.seed),
            until(batches, time.monotonic() + seconds),
            advgans=advgans,
            data_source=self.source,
            split="test",
            classifier=self.architecture,
            purifier=purifier,
        )
        return measured.record

    def record(self, purifier, threat_model, epsilon):
        """Returns what was measured on one defence, or None."""
        wanted = (purifier, threat_model, epsilon, self.architecture)
        for record in self.records:
            names = ("purifier", "threat_model", "epsilon", "classifier")
            if tuple(record[name] for name in names) == wanted:
                return record
        return None

    # Trainings

    def _other_architecture(self):
        return None if self.architecture == self.spec.default_classifier else self.architecture

    def _attack_training(self, purifier, epsilon):
        part = trained_parts.attack_part(
            self.dataset, epsilon, self._other_architecture(), purifier
        )
        return self._training(part, "advgan")

    def _training(self, part, kind):
        """Returns the stage that trains a part, in a process of its own; none that the zoo has."""
        self.trained.append(part.name)
        return Stage(
            kind,
            f"{part.name} trains",
            lambda seconds: self._train(part, seconds),
            trained_parts.is_trained(part.name, None)
            or is_finished(self.output_dir / "runs" / part.name),
        )

    def _train(self, part, seconds):
        place = {**self.place, "seed": self.seed, "output_dir": str(self.output_dir)}
        if dict(part.options).get("adversarial"):
            place["epsilon"] = max(self.epsilons)
        train_within(part, seconds, place, self.architecture, self.folder)

    def _warn_of_short_trainings(self):
        for name in self.trained:
            config = trained_parts.describe(name, self.output_dir)
            steps = config.get("epochs", 0) * (config.get("steps_per_epoch") or 0)
            if 0 < steps < FEW_STEPS:
                self._warn(
                    f"{name} was trained for {steps} steps only, as there was no time for more: "
                    "--minutes=N gives it more"
                )

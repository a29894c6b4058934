"""The study's experiments on one data set: loads the trained parts and measures every cell."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from tfpurify import provenance
from tfpurify.attacks.pgd import PGD
from tfpurify.attacks.worst_case import WorstCase
from tfpurify.data import loading
from tfpurify.evaluation import checks, comparisons, defences, distances, experiments, records
from tfpurify.evaluation.image_rows import ImageRow
from tfpurify.evaluation.observed_purifier import Watched
from tfpurify.evaluation.progress import Progress
from tfpurify.evaluation.rates import evaluate
from tfpurify.evaluation.updating import update_records
from tfpurify.models import zoo
from tfpurify.models.tracing import trace_classifier
from tfpurify.purifiers.defensegan import DefenseGAN
from tfpurify.purifiers.purified_classifier import PurifiedClassifier
from tfpurify.training import configuration, trained_parts
from tfpurify.vocabulary import (
    DEFENSE_MODES,
    SMALL_EPSILON,
    STUDY_CLASSIFIERS,
    display,
    display_attack,
)

# Rough seconds an image on two cores: they only weigh the remaining time.
_SECONDS = {"none": 0.001, "puvae": 0.01, "defensegan": 0.14, "defensegan_fast": 0.002}
_PGD_STEP_SECONDS = {"none": 0.002, "puvae": 0.02, "defensegan": 0.003, "defensegan_fast": 0.008}
_WHOLE_DESCENT_SECONDS = 0.17  # of a PGD step through all of DefenseGAN's descent
_FAST = experiments.Cell("whitebox", "defensegan_fast", "worst_case")
_BATCH_SIZE = {"none": 250, "puvae": 100, "defensegan": 64, "defensegan_fast": 64}


class Study:
    """The experiments on one data set.

    Args:
        dataset: Name of the data set.
        options: `reproduce`'s flags. With `retrain` the runs of `output_dir` go before the zoo;
            with `transfer` they stand in for what the zoo lacks.
    """

    def __init__(self, dataset, options):
        self.dataset = dataset
        self.options = options
        self.parts = experiments.parts(dataset, options["transfer"])
        self.distances = []
        self._loaded = {}

    def missing(self):
        """Returns the parts that were not trained yet."""
        trained = set(zoo.available())
        if self.options["retrain"] or self.options["transfer"]:
            runs = Path(self.options["output_dir"]).glob("runs/*/model.keras")
            trained |= {path.parent.name for path in runs}
        return [part for part in self.parts.values() if part.name not in trained]

    def _folder_of(self, part):
        """Returns the folder whose run of a part is measured, or None for the zoo's."""
        is_needed = self.options["transfer"] and part.name not in zoo.available()
        return self.options["output_dir"] if self.options["retrain"] or is_needed else None

    def run(self):
        """Measures every cell whose parts are there, and fills `distances`.

        Returns:
            The records; none if the classifier is missing.
        """
        cells = self._possible(experiments.cells(self.dataset, self.options["transfer"]))
        if not cells:
            return []
        self.source = loading.resolve_source(
            self.dataset, self.options["data_dir"], self.options["data_source"]
        )
        self.images = loading.load_dataset(
            self.dataset, "test", self.options["data_dir"], self.source
        )
        jobs = [(cell, None) for cell in cells] + self._pgd_jobs() + self._worst_case_jobs()
        self.progress = Progress(sum(self._work(*job) for job in jobs))
        found = []
        for job in jobs:
            moved = len(self.distances)
            found.append(self._measure(*job))
            fresh = [found[-1], *_raise_flags(found)]
            if self.options["results_file"]:
                update_records(self.options["results_file"], fresh, self.distances[moved:])
        return found

    def _possible(self, cells):
        """Returns the cells of the purifiers asked for, whose parts are all trained."""
        return [
            cell
            for cell in cells
            if cell.purifier in (self.options["purifiers"] or [cell.purifier])
            and not self._lacking(cell.roles)
        ]

    def _lacking(self, roles):
        """Returns the names of those parts, by role, that were not trained yet."""
        missing = self.missing()
        return [self.parts[role].name for role in roles if self.parts[role] in missing]

    def _pgd_jobs(self):
        if not self.options["pgd_steps"]:
            return []
        cells, asked = (
            self._possible(experiments.pgd_cells(self.dataset)),
            self.options["pgd_modes"],
        )
        return [
            (cell, mode)
            for cell in cells
            for mode in DEFENSE_MODES[cell.purifier]
            if not asked or mode in asked
        ]

    def _worst_case_jobs(self):
        if not self.options["worst_case_steps"]:
            return []
        return [
            (cell, "strongest")
            for cell in self._possible(experiments.worst_case_cells(self.dataset))
        ]

    def count(self, cell):
        """Returns the number of test images of a cell."""
        limits = [int(self.images.cardinality()), self.options["limit"]]
        if _kind(cell) == "defensegan":
            is_study = cell.purifier == "defensegan"
            limits.append(self.options["defensegan_limit" if is_study else "prior_limit"])
        if cell.attack in ("pgd", "worst_case"):
            limits.append(self.options[f"{cell.attack}_limit"])
        return min(limit for limit in limits if limit is not None)

    def _work(self, cell, mode):
        seconds = 2 * _SECONDS[_kind(cell)]
        if cell.attack == "pgd":
            step_seconds = _PGD_STEP_SECONDS[_kind(cell)]
            if mode == "truncated":
                step_seconds = _WHOLE_DESCENT_SECONDS
            seconds += self.options["pgd_steps"] * step_seconds
        elif cell.attack == "worst_case":
            stand_in = "defensegan_fast" if cell.purifier == "defensegan" else _kind(cell)
            steps = self.options["worst_case_steps"] * len(DEFENSE_MODES[stand_in])
            seconds += steps * _PGD_STEP_SECONDS[stand_in]
        elif cell.threat_model == "whitebox":
            seconds /= 2  # its clean images were purified for the blind cell
        return seconds * self.count(cell)

    def _measure(self, cell, mode):
        n, words = self.count(cell), _words(cell, mode)
        self.progress.say(f"{self.dataset}: {words} on {n} images")
        attack, epsilon, fields = self._attack(cell, mode)
        purifier = self._purifier(cell.purifier)
        if purifier is not None:
            purifier.reset()
        rates = evaluate(
            self._batches(cell, n, self._work(cell, mode) / n, f"{self.dataset}: {words}"),
            self._compiled_classifier(cell.classifier),
            purifier=purifier,
            attack=attack,
            epsilon=epsilon,
        )
        record = records.make_record(
            rates,
            dataset=self.dataset,
            data_source=self.source,
            split="test",
            classifier=cell.architecture or STUDY_CLASSIFIERS[self.dataset],
            purifier=cell.purifier,
            threat_model=cell.threat_model,
            attack=cell.attack,
            command=provenance.portable_command(provenance.command_line()),
            **fields,
        )
        if cell.attack == "worst_case":
            flag = checks.check_advgans(self._lacking(_advgan_roles(cell)))
            record["checks"] += [flag] if flag else []
        if (cell.threat_model, cell.attack) == ("blind", "advgan") and cell.architecture is None:
            errors = {kind: purifier.errors(kind) for kind in ("clean", "adversarial")}
            seconds = purifier.seconds_per_image()
            self.distances.append(distances.make_distances(record, errors, seconds))
        return record

    def _batches(self, cell, n, work, words):
        batches = self.images.take(n).batch(_BATCH_SIZE[_kind(cell)])
        purifier = self._purifier(cell.purifier)
        for images, labels in purifier.watch(batches) if purifier else batches:
            yield images, labels
            self.progress.advance(work * len(images), words)

    def _attack(self, cell, mode):
        """Returns the attack of a cell, its epsilon, and the record's fields that it decides."""
        if cell.attack == "pgd":
            epsilon = cell.epsilon
            attack = PGD(
                self._differentiable(cell, mode),
                epsilon,
                self.options["pgd_steps"],
                seed=self.options["seed"] or 0,
            )
            return attack, epsilon, {"gradient_mode": mode, "seed": attack.seed}
        if cell.attack == "worst_case":
            return self._worst_case(cell), cell.epsilon, self._worst_case_fields(cell)
        trained = self._description(cell.attacker or cell.classifier)
        if cell.attacker is None:
            return None, None, {"seed": trained.get("seed")}
        attack = self._part(cell.attacker)
        is_through_purifier = cell.threat_model == "whitebox" and cell.purifier != "none"
        mode = trained["gradient_mode"] if is_through_purifier else None
        return attack, attack.epsilon, {"gradient_mode": mode, "seed": trained["seed"]}

    def _worst_case(self, cell):
        """Returns the AdvGANs on the defence and on the bare classifier, and PGD in all modes.

        A blind attacker has those of the bare classifier. The reference is given the images that
        PGD makes for its fast projector, as its own gradient takes 0.2 s an image and step.
        """
        is_reference = (cell.purifier, cell.threat_model) == ("defensegan", "whitebox")
        defence = defences.Defence(self.dataset, cell.purifier, cell.threat_model, self.classifier)
        if cell.purifier != "none":
            defence.purifier = self._deployed(cell.purifier)
        if is_reference and self._lacking(_FAST.roles):
            names = ("advgan",)
        else:
            names = ("advgan", "transfer" if is_reference else "pgd")
            defence.fast = self._deployed("defensegan_fast") if is_reference else None
        steps, seed = self.options["worst_case_steps"], self.options["seed"] or 0
        candidates = self._advgan_preset(cell)["soft_candidates"]
        settings = defences.Settings(
            cell.epsilon, num_steps=steps, seed=seed, soft_candidates=candidates
        )
        advgans = {
            self.parts[role].name: self._part(role)
            for role in _advgan_roles(cell)
            if not self._lacking([role])
        }
        attacks = defences.make_attacks(names, defence, settings, advgans=advgans)
        return WorstCase(attacks, defence.served)

    def _worst_case_fields(self, cell):
        is_crossed = cell.threat_model == "whitebox" and cell.purifier not in ("none", "defensegan")
        mode = "strongest" if is_crossed else None
        return {"gradient_mode": mode, "seed": self.options["seed"] or 0}

    def _advgan_preset(self, cell):
        return configuration.resolve("advgan", {"dataset": self.dataset, "defense": cell.purifier})

    def _differentiable(self, cell, mode):
        """Returns what PGD climbs; `bpda` through DefenseGAN with training's shortened descent."""
        preset = self._advgan_preset(cell)
        if cell.purifier == "none":
            return self.classifier
        if cell.purifier == "defensegan" and mode == "bpda":
            purifier = DefenseGAN(
                self._part("defensegan").generator,
                num_steps=preset["num_steps"],
                num_restarts=preset["num_restarts"],
            )
            purifier.build()
        else:
            purifier = self._deployed(cell.purifier)
        candidates = preset["soft_candidates"]
        return PurifiedClassifier(purifier, self.classifier, mode, soft_candidates=candidates)

    def _description(self, role):
        """Returns the seed and the gradient mode with which a part was trained, among others."""
        part = self.parts[role]
        return trained_parts.describe(part.name, self._folder_of(part))

    @property
    def classifier(self):
        """The bare classifier."""
        return self._part("classifier")

    def _compiled_classifier(self, role):
        """Returns a classifier, traced once for all cells and batch sizes."""
        key = f"compiled {role}"
        if key not in self._loaded:
            self._loaded[key] = trace_classifier(self._part(role))
        return self._loaded[key]

    def _purifier(self, name):
        if name == "none":
            return None
        key = f"watched {name}"
        if key not in self._loaded:
            self._loaded[key] = Watched(self._deployed(name))
        return self._loaded[key]

    def _deployed(self, name):
        """Returns a purifier as it is served."""
        prior = self._part("defensegan") if name == "defensegan_fast" else None
        return trained_parts.as_purifier(self._part(name), prior)

    def _part(self, role):
        if role not in self._loaded:
            part = self.parts[role]
            folder = self._folder_of(part)
            self._loaded[role] = trained_parts.load_part(part, folder)
        return self._loaded[role]

    def image_rows(self):
        """Returns a figure's rows: one image of each class, clean, attacked and purified."""
        images, labels = next(iter(self.images.batch(250)))
        _, first = np.unique(labels.numpy(), return_index=True)
        clean, labels = tf.gather(images, first), labels.numpy()[first]
        rows, attacked = [self._row("clean", clean, labels)], {}
        cells = self._possible(experiments.STUDY_CELLS)
        for cell in sorted(cells, key=lambda cell: cell.purifier != "none"):
            if cell.threat_model not in ("blind", "whitebox"):
                continue
            purifier = display(cell.purifier)
            if cell.attacker not in attacked:
                attacked[cell.attacker] = self._part(cell.attacker)(clean)
                known = "the bare classifier" if cell.attacker == "whitebox_none" else purifier
                rows.append(self._row(f"attack on {known}", attacked[cell.attacker], labels))
            if cell.purifier != "none":
                purified_images = self._purifier(cell.purifier)(attacked[cell.attacker])
                title = f"{cell.threat_model}: purified by {purifier}"
                rows.append(self._row(title, purified_images, labels))
        return rows

    def _row(self, title, images, labels):
        probabilities = tf.nn.softmax(self.classifier(images, training=False)).numpy()
        return ImageRow(
            title=title,
            images=np.asarray(images),
            labels=labels,
            predictions=probabilities.argmax(axis=1),
            confidences=probabilities.max(axis=1),
            class_names=loading.get_spec(self.dataset).class_names,
        )


def _advgan_roles(cell):
    """Returns the roles of the AdvGANs that the attacker of a worst case has."""
    names = ["none"] if cell.threat_model == "blind" else [cell.purifier, "none"]
    suffix = "_small" if cell.epsilon == SMALL_EPSILON else ""
    return dict.fromkeys(f"whitebox_{name}{suffix}" for name in names)


def _kind(cell):
    """Returns `none`, `puvae`, `defensegan` or its fast projector: how long an image takes."""
    return cell.purifier if cell.purifier in _SECONDS else cell.purifier.partition("_")[0]


def _words(cell, mode=None):
    if cell.attack == "none":
        return "clean accuracy"
    purifier = "no defence" if cell.purifier == "none" else display(cell.purifier)
    return f"{cell.threat_model}, {purifier}, {display_attack(cell.attack, mode)}"


def _raise_flags(found):
    """Adds the flags that need two records, and returns the records that have a new one."""
    flagged = []
    for record, flag in comparisons.compare_records(found):
        if flag not in record["checks"]:
            logging.warning("Check raised: %s", flag)
            record["checks"].append(flag)
            flagged.append(record)
    return flagged

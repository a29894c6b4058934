"""The attack that each of the study's experiments measures."""

from tfpurify.attacks.pgd import PGD
from tfpurify.evaluation import attacks_by_name, defences
from tfpurify.evaluation.attack_measurement import measure_attack
from tfpurify.evaluation.experiments import Experiment
from tfpurify.evaluation.trained_advgans import TrainedAdvGANs
from tfpurify.purifiers.defensegan import DefenseGAN
from tfpurify.purifiers.purified_classifier import PurifiedClassifier
from tfpurify.training import configuration
from tfpurify.vocabulary import SMALL_EPSILON

_FAST = Experiment("whitebox", "defensegan_fast", "worst_case")


class ExperimentAttacks:
    """Makes the attacks of experiments on one data set, and measures their worst cases.

    Args:
        dataset: Name of the data set.
        options: `trainers.reproduce`'s flags.
        parts: `ExperimentParts`.
    """

    def __init__(self, dataset, options, parts):
        self.dataset, self.options, self.parts = dataset, options, parts
        self.seed = options["seed"] or 0

    def make(self, experiment, mode):
        """Returns an experiment's attack, and the record's fields that it decides.

        Args:
            experiment: An `Experiment`.
            mode: Gradient mode of PGD, else None.

        Returns:
            `attack(images, labels)`, or None for clean images; its epsilon; and a dictionary of
            `gradient_mode` and `seed`.
        """
        if experiment.attack == "pgd":
            target, steps = self._differentiable(experiment, mode), self.options["pgd_steps"]
            attack = PGD(target, experiment.epsilon, steps, seed=self.seed)
            return attack, experiment.epsilon, {"gradient_mode": mode, "seed": self.seed}
        trained = self.parts.describe(experiment.attacker or experiment.classifier)
        if experiment.attacker is None:
            return None, None, {"seed": trained.get("seed")}
        attack = self.parts.load(experiment.attacker)
        is_through_purifier = (
            experiment.threat_model == "whitebox" and experiment.purifier != "none"
        )
        mode = trained["gradient_mode"] if is_through_purifier else None
        return attack, attack.epsilon, {"gradient_mode": mode, "seed": trained["seed"]}

    def measure_worst_case(self, experiment, batches, **fields):
        """Returns the record of the AdvGANs on the defence and on the bare classifier, and PGD.

        A blind attacker has those of the bare classifier. PGD goes through every gradient mode of
        the defence, or the strongest known one alone where the job is to be short. The reference is
        given the images that PGD makes for its fast projector, as its own gradient takes 0.2 s an
        image and step.

        Args:
            experiment: An `Experiment` of a worst case.
            batches: Of images and labels.
            **fields: The record's `data_source` and `split`.
        """
        name, epsilon, parts = experiment.purifier, experiment.epsilon, self.parts
        defence = defences.Defence(self.dataset, name, experiment.threat_model, parts.classifier)
        defence.purifier = parts.purifier(name)
        defence.served = parts.served(name)  # traced already
        is_reference = (name, experiment.threat_model) == ("defensegan", "whitebox")
        names = ("advgan", "transfer" if is_reference else "pgd")
        if is_reference and parts.lacking(_FAST.roles):
            names = ("advgan",)
        elif is_reference:
            defence.fast = parts.purifier("defensegan_fast")
        settings = attacks_by_name.Settings(
            epsilon,
            num_steps=self.options["worst_case_steps"],
            seed=self.seed,
            soft_candidates=self._preset(experiment)["soft_candidates"],
        )
        roles = advgan_roles(experiment)
        missing = parts.lacking(roles)
        loaded = [role for role in roles if parts.by_role[role].name not in missing]
        advgans = TrainedAdvGANs(
            {parts.by_role[role].name: parts.load(role) for role in loaded}, missing=tuple(missing)
        )
        if is_reference:
            fields["gradient_mode"] = None  # its own gradient is not crossed
        return measure_attack(
            defence,
            names,
            settings,
            batches,
            modes=defence.modes if self.options["thorough"] else defence.modes[:1],
            advgans=advgans,
            traced_classifier=parts.traced_classifier(),
            observed_purifier=parts.observed(name),
            attack="worst_case",
            **fields,
        ).record

    def _differentiable(self, experiment, mode):
        """Returns what PGD climbs; `bpda` through DefenseGAN with training's shortened descent."""
        parts, preset = self.parts, self._preset(experiment)
        if experiment.purifier == "none":
            return parts.classifier
        if experiment.purifier == "defensegan" and mode == "bpda":
            descent = {name: preset[name] for name in ("num_steps", "num_restarts")}
            purifier = DefenseGAN(parts.load("defensegan").generator, **descent)
            purifier.build()
        else:
            purifier = parts.purifier(experiment.purifier)
        candidates = preset["soft_candidates"]
        return PurifiedClassifier(purifier, parts.classifier, mode, soft_candidates=candidates)

    def _preset(self, experiment):
        """Returns the settings with which AdvGAN is trained on an experiment's defence."""
        options = {"dataset": self.dataset, "defense": experiment.purifier}
        return configuration.resolve("advgan", options)


def advgan_roles(experiment):
    """Returns the roles of the AdvGANs that the attacker of a worst case has."""
    names = ["none"] if experiment.threat_model == "blind" else [experiment.purifier, "none"]
    suffix = "_small" if experiment.epsilon == SMALL_EPSILON else ""
    return dict.fromkeys(f"whitebox_{name}{suffix}" for name in names)

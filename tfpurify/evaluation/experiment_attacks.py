"""The attack that each of the study's experiments measures."""

from tfpurify.attacks.pgd import PGD
from tfpurify.attacks.worst_case import WorstCase
from tfpurify.evaluation import attacks_by_name, defences
from tfpurify.evaluation.experiments import Experiment
from tfpurify.purifiers.defensegan import DefenseGAN
from tfpurify.purifiers.purified_classifier import PurifiedClassifier
from tfpurify.training import configuration
from tfpurify.vocabulary import SMALL_EPSILON

_FAST = Experiment("whitebox", "defensegan_fast", "worst_case")


class ExperimentAttacks:
    """Makes the attacks of experiments on one data set.

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
        if experiment.attack == "worst_case":
            return self._worst_case(experiment)
        trained = self.parts.describe(experiment.attacker or experiment.classifier)
        if experiment.attacker is None:
            return None, None, {"seed": trained.get("seed")}
        attack = self.parts.load(experiment.attacker)
        is_through_purifier = (
            experiment.threat_model == "whitebox" and experiment.purifier != "none"
        )
        mode = trained["gradient_mode"] if is_through_purifier else None
        return attack, attack.epsilon, {"gradient_mode": mode, "seed": trained["seed"]}

    def _worst_case(self, experiment):
        """Returns the AdvGANs on the defence and on the bare classifier, and PGD.

        A blind attacker has those of the bare classifier. PGD goes through every gradient mode of
        the defence, or the strongest known one alone where the job is to be short. The reference is
        given the images that PGD makes for its fast projector, as its own gradient takes 0.2 s an
        image and step.
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
        advgans = {
            parts.by_role[role].name: parts.load(role)
            for role in advgan_roles(experiment)
            if not parts.lacking([role])
        }
        modes = defence.modes if self.options["thorough"] else defence.modes[:1]
        attacks = attacks_by_name.make_attacks(names, defence, settings, modes, advgans)
        mode = None
        if defence.is_crossed and not is_reference:
            mode = "strongest" if len(modes) > 1 else modes[0]
        fields = {"gradient_mode": mode, "seed": self.seed}
        return WorstCase(attacks, defence.served), epsilon, fields

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

"""What a configuration is called: its run, its threat model, its attack, its purifier."""

import dataclasses
import shlex

from tfpurify.data.specs import get_spec
from tfpurify.registry import DEFENCES
from tfpurify.training import configuration, own_classifier
from tfpurify.vocabulary import STUDY_EPSILON


@dataclasses.dataclass(frozen=True)
class Part:
    """A model that is trained once, and what trains it.

    Args:
        name: Of its run and of its entry in the zoo.
        trainer: Which trainer makes it.
        options: The trainer's flags, as pairs of name and value.
    """

    name: str
    trainer: str
    options: tuple = ()

    @classmethod
    def of(cls, trainer, options):
        """Returns what a trainer makes with these options, by flag name."""
        name = run_name(trainer, configuration.resolve(trainer, options))
        return cls(name, trainer, tuple(options.items()))

    @property
    def arguments(self):
        """The trainer's command line after `python`."""
        options = []
        for name, value in self.options:
            if name == "dataset":
                options += get_spec(value).flags or [(name, value)]
            else:
                options += (
                    own_classifier.flags_of(value) if name == "classifier" else [(name, value)]
                )
        return ["-m", f"trainers.{self.trainer}", *(_flag(*option) for option in options)]

    @property
    def command(self):
        """What a user types to train it."""
        return shlex.join(["python", *self.arguments])


def _flag(name, value):
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    return f"--{name}={value}"


def run_name(trainer, config):
    """Returns the name of a run, of its folder and of its entry in the zoo."""
    if config["name"]:
        return config["name"]
    dataset = config["dataset"]
    if trainer == "classifier":
        return f"{config['classifier']}_{dataset}"
    is_usual = config["classifier"] == get_spec(dataset).default_classifier
    other_classifier = [] if is_usual else [config["classifier"]]
    if trainer == "puvae":
        adversarial = ["adversarial"] if config["adversarial"] else []
        return "_".join(["puvae", dataset, *adversarial, *other_classifier])
    if trainer == "encoder":
        return f"encoder_{run_name('defensegan', {**config, 'name': None})}"
    if trainer == "defensegan":
        width = [] if config["width"] == 1 else [f"width{config['width']}"]
        prior = "dcgan" if config["gan_loss"] == "dcgan" else "wgan"
        return "_".join([prior, dataset, *width])
    threat = threat_model(config)
    parts = ["advgan", dataset, threat]
    if threat == "blackbox":
        parts.append(config["blackbox"])
    if threat != "blackbox" or config["defense"] != "none":
        parts.append(config["defense"])
    if config["targeted"]:
        parts.append(f"target{config['target_class']}")
    if config["epsilon"] != STUDY_EPSILON:
        parts.append(f"eps{255 * config['epsilon']:.4g}".replace(".", "_"))
    return "_".join(parts + other_classifier)


def threat_model(config):
    """Returns the threat model of an AdvGAN run.

    Without a purifier, knowing the classifier is knowing everything: `whitebox`.
    """
    if config["blackbox"] != "none":
        return "blackbox"
    return "whitebox" if config["whitebox"] or config["defense"] == "none" else "blind"


def attack_name(config):
    """Returns the record's word for the attack: how it was distilled, where it wants to go."""
    parts = ["advgan"]
    if config["blackbox"] != "none":
        parts.append(config["blackbox"])
    if config["targeted"]:
        parts.append(f"target{config['target_class']}")
    return "_".join(parts)


def purifier_of(trainer, config):
    """Returns the record's word for the purifier that a run makes; its name if there is none."""
    name = run_name(trainer, config)
    for word, entry in DEFENCES.items():
        if entry.training is None:
            continue
        maker, options = entry.training
        part = configuration.resolve(maker, {"dataset": config["dataset"], **options})
        if maker == trainer and run_name(maker, part) == name:
            return word
    return name


def measured_as(trainer, config):
    """Returns the record's fields that tell in which records a model took part."""
    if trainer == "classifier":
        return {"classifier": config["classifier"], "purifier": "none"}
    if trainer != "advgan":
        return {"purifier": purifier_of(trainer, config)}
    fields = {
        **{name: config[name] for name in ("classifier", "epsilon", "seed")},
        "attack": attack_name(config),
    }
    threat = threat_model(config)
    if threat == "whitebox" and config["defense"] == "none":
        # The attack on the bare classifier is also the blind one behind every purifier.
        return {**fields, "gradient_mode": None}
    mode = config["gradient_mode"] if threat == "whitebox" else None
    return {
        **fields,
        "threat_model": threat,
        "purifier": config["defense"],
        "gradient_mode": mode,
    }

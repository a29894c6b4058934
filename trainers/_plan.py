"""The study's experiments as data: the trained parts they need, in order, and the tables' cells."""

import dataclasses
import shlex

from trainers import _presets

# Flags that say where a machine keeps its files, and nothing about a number.
_PLACES = ("data_dir", "output_dir", "results_file", "zoo_dir")


@dataclasses.dataclass(frozen=True)
class Part:
    """A model that is trained once.

    Args:
        name: Of its run and of its entry in the zoo.
        trainer: Which trainer makes it.
        options: The trainer's flags, as pairs of name and value.
    """

    name: str
    trainer: str
    options: tuple

    @property
    def arguments(self):
        """The trainer's command line after `python`."""
        return ["-m", f"trainers.{self.trainer}", *(_flag(*option) for option in self.options)]

    @property
    def command(self):
        """What a user types to train it."""
        return shlex.join(["python", *self.arguments])


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of the study's tables.

    Args:
        threat_model: As in a record.
        purifier: As in a record.
        attack: As in a record; `advgan_static` and `advgan_dynamic` say how the surrogate was
            distilled.
        attacker: Role of the trained AdvGAN, a key of `parts`; None without an attack.
    """

    threat_model: str
    purifier: str
    attack: str
    attacker: str | None = None

    @property
    def roles(self):
        """The trained parts that the cell needs."""
        purifier = None if self.purifier == "none" else self.purifier
        return [role for role in ("classifier", purifier, self.attacker) if role]


CELLS = (
    Cell("none", "none", "none"),
    Cell("blackbox", "none", "advgan_static", "blackbox_static"),
    Cell("blackbox", "none", "advgan_dynamic", "blackbox_dynamic"),
    Cell("blind", "puvae", "advgan", "whitebox_none"),
    Cell("blind", "defensegan", "advgan", "whitebox_none"),
    Cell("whitebox", "none", "advgan", "whitebox_none"),
    Cell("whitebox", "puvae", "advgan", "whitebox_puvae"),
    Cell("whitebox", "defensegan", "advgan", "whitebox_defensegan"),
)

_TRAININGS = {
    "classifier": ("classifier", {}),
    "puvae": ("puvae", {}),
    "defensegan": ("defensegan", {}),
    "whitebox_none": ("advgan", {"whitebox": True}),
    "blackbox_static": ("advgan", {"blackbox": "static"}),
    "blackbox_dynamic": ("advgan", {"blackbox": "dynamic"}),
    "whitebox_puvae": ("advgan", {"defense": "puvae", "whitebox": True}),
    "whitebox_defensegan": ("advgan", {"defense": "defensegan", "whitebox": True}),
}


def parts(dataset):
    """Returns the parts that a data set's tables need, by role, in the order of their training."""
    found = {}
    for role, (trainer, special) in _TRAININGS.items():
        options = {"dataset": dataset, **special}
        name = _presets.run_name(trainer, _presets.resolve(trainer, options))
        found[role] = Part(name, trainer, tuple(options.items()))
    return found


def portable_command(command):
    """Returns a command without the flags that only say where this machine keeps its files."""
    kept, words = [], iter(shlex.split(command))
    for word in words:
        name, has_value, _ = word.lstrip("-").partition("=")
        if word.startswith("-") and name in _PLACES:
            if not has_value:
                next(words, None)
            continue
        kept.append(word)
    return shlex.join(kept)


def _flag(name, value):
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    return f"--{name}={value}"

"""The defences: what each is called, made from, attacked through and measured on.

A new purifier is one more entry here. Importable without TensorFlow.
"""

import dataclasses

_ALL = ("mnist", "fashion_mnist", "cifar10")


@dataclasses.dataclass(frozen=True)
class DefenceEntry:
    """One defence.

    Args:
        display: How it is printed.
        modes: The gradient modes that it is attacked through, the strongest that was found first.
        training: The trainer that makes it, and the flags by which it does; None if nobody trains
            it.
        batch_size: Images that are measured at once.
        datasets: The data sets whose tables it is in.
        is_baseline: Whether it is one of ART's, to stand beside ours.
        is_in_study_tables: Whether it has a row of its own beside the study's.
        is_detector: Whether it is measured as a detector too: an attacker can differentiate through
            it in no time.
        prior: How its prior is printed, if it is a DefenseGAN.
    """

    display: str
    modes: tuple
    training: tuple | None = None
    batch_size: int = 64
    datasets: tuple = _ALL
    is_baseline: bool = False
    is_in_study_tables: bool = True
    is_detector: bool = False
    prior: str | None = None


DEFENCES = {
    "none": DefenceEntry("none", (None,), batch_size=250),
    "puvae": DefenceEntry(
        "PuVAE",
        ("soft", "selection", "exact", "bpda"),
        ("puvae", {}),
        batch_size=100,
        is_detector=True,
    ),
    "puvae_adversarial": DefenceEntry(
        "PuVAE (adversarially trained)",
        ("selection", "soft", "exact", "bpda"),
        ("puvae", {"adversarial": True}),
        batch_size=100,
        datasets=("mnist", "fashion_mnist"),
        is_detector=True,
    ),
    # The reference is left out of `exact` (200 steps overflow) and `soft` (ten descents on the
    # tape).
    "defensegan": DefenceEntry(
        "DefenseGAN", ("truncated", "bpda"), ("defensegan", {}), prior="DCGAN (the study's)"
    ),
    "defensegan_fast": DefenceEntry(
        "DefenseGAN (fast)",
        ("exact", "truncated", "soft", "encoder", "bpda"),
        ("encoder", {}),
        is_detector=True,
        prior="DCGAN, fast projector",
    ),
    # Twice the study's channels, to give CIFAR-10 a fair chance.
    "defensegan_wide": DefenceEntry(
        "DefenseGAN (wide prior)",
        ("truncated", "bpda"),
        ("defensegan", {"width": 2}),
        datasets=("cifar10",),
        is_in_study_tables=False,
        prior="DCGAN, twice the channels",
    ),
    "defensegan_wgan": DefenceEntry(
        "DefenseGAN (WGAN-GP prior)",
        ("truncated", "bpda"),
        ("defensegan", {"gan_loss": "wgan-gp"}),
        is_in_study_tables=False,
        prior="WGAN-GP",
    ),
    "bit_depth": DefenceEntry("bit depth (ART)", ("bpda",), is_baseline=True),
    "jpeg": DefenceEntry("JPEG (ART)", ("bpda",), is_baseline=True),
}

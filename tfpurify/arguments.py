"""What an argument must be, refused in one form of words: "`x` must be .... Received: x=..."."""

import numbers


def require_one_of(choices, **arguments):
    """Refuses arguments that are none of the choices.

    Raises:
        ValueError: If one is.
    """
    for name, value in arguments.items():
        if value not in choices:
            raise ValueError(f"`{name}` must be one of {list(choices)}. Received: {name}={value!r}")


def require_at_least(minimum, **arguments):
    """Refuses numbers below a minimum; None, an argument that is not given, passes.

    Raises:
        ValueError: If one is.
    """
    for name, value in arguments.items():
        if value is not None and not value >= minimum:  # NaN is refused too
            raise ValueError(f"`{name}` must be >= {minimum}. Received: {name}={value}")


def require_above_zero(**arguments):
    """Refuses numbers that are not > 0; None passes.

    Raises:
        ValueError: If one is.
    """
    for name, value in arguments.items():
        if value is not None and not value > 0:  # NaN is refused too
            raise ValueError(f"`{name}` must be > 0. Received: {name}={value}")


def require_epsilon(epsilon):
    """Refuses an L-inf bound outside (0, 1].

    Raises:
        ValueError: If it is.
    """
    if not 0 < epsilon <= 1:
        raise ValueError(f"`epsilon` must be in (0, 1]. Received: epsilon={epsilon}")


def parse_epsilon(word):
    """Returns an L-inf bound from a flag's word.

    Raises:
        ValueError: If it is no number in (0, 1].
    """
    try:
        epsilon = float(word)
    except ValueError:
        raise ValueError(f"`epsilon` must be numbers. Received: {word!r}") from None
    require_epsilon(epsilon)
    return epsilon


def require_target_class(target_class, num_classes=None):
    """Refuses what is no class to move towards; None, an untargeted attack, passes.

    Args:
        target_class: int >= 0, or None.
        num_classes: Its upper bound, exclusive; None where that is not known yet.

    Raises:
        ValueError: If it is no int or out of its range.
    """
    if target_class is None:
        return
    is_int = isinstance(target_class, numbers.Integral) and not isinstance(target_class, bool)
    if not is_int or target_class < 0:
        raise ValueError(
            f"`target_class` must be an int >= 0 or None. Received: target_class={target_class!r}"
        )
    if num_classes is not None and target_class >= num_classes:
        raise ValueError(
            "`target_class` must be in [0, num_classes). "
            f"Received: target_class={target_class}, num_classes={num_classes}"
        )

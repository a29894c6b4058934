"""Modules import only what stands to their left, and names load only when they are used."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import tfpurify

ROOT = Path(tfpurify.__file__).parents[1]

# Each may import what comes before it; the modules of a package may import each other.
ORDER = (
    *("registry", "vocabulary", "arguments", "files", "provenance"),
    *("data", "models", "purifiers", "attacks", "training", "evaluation", "report", "serving"),
    "trainers",
)
FORBIDDEN = {("attacks", "purifiers")}
HEAVY = ("tensorflow", "keras", "tensorflow_datasets", "matplotlib", "tensorboard")


def own_modules():
    for path in sorted((ROOT / "tfpurify").rglob("*.py")):
        name = path.relative_to(ROOT / "tfpurify")
        if name.as_posix() != "__init__.py":
            yield pytest.param(path, name.parts[0].removesuffix(".py"), id=name.as_posix())
    for path in sorted((ROOT / "trainers").glob("*.py")):
        yield pytest.param(path, "trainers", id=f"trainers/{path.name}")


def imported_names(path):
    """Yields the dotted names that a file imports, wherever in it, of our two packages.

    `tfpurify.Name` counts too: it loads the module of a public name late.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute, TFX needs them so"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "tfpurify":
            names = [f"tfpurify.{node.attr}"]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ("tfpurify", "trainers"))


def entry(name):
    """Returns the entry of `ORDER` that a dotted name stands for, or None for `tfpurify` itself."""
    top, *rest = name.split(".")
    if top == "trainers":
        return "trainers"
    if not rest or rest[0].startswith("__"):
        return None
    if rest[0] in tfpurify._PUBLIC:
        return entry(tfpurify._PUBLIC[rest[0]])
    return rest[0]


@pytest.mark.parametrize(("path", "own"), list(own_modules()))
def test_a_module_imports_only_from_its_left(path, own):
    assert own in ORDER, f"{own} has no place in the plan: give it one in ORDER"
    for name in imported_names(path):
        imported = entry(name)
        if imported in (None, own):
            continue
        assert imported in ORDER, f"{path} imports {name}, which has no place in the plan"
        assert ORDER.index(imported) < ORDER.index(own), f"{path} imports {name} from its right"
        assert (own, imported) not in FORBIDDEN, f"{path} imports {name}"


@pytest.mark.parametrize("name", tfpurify._PUBLIC)
def test_every_public_name_is_there(name):
    value = getattr(tfpurify, name)
    assert value is getattr(importlib.import_module(tfpurify._PUBLIC[name]), name)
    assert name in dir(tfpurify)


def test_the_version_is_public():
    assert "__version__" in dir(tfpurify)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'tfpurify' has no attribute 'PuVEA'"):
        tfpurify.PuVEA  # noqa: B018


def imported_by(statements):
    """Returns which heavy packages a fresh process has after running `statements`."""
    report = f"import sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    finished = subprocess.run(
        [sys.executable, "-c", f"{statements}\n{report}"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if finished.returncode:
        pytest.fail(finished.stderr)
    return finished.stdout.split()


def test_the_package_imports_nothing_heavy():
    assert imported_by("import tfpurify, tfpurify.vocabulary; dir(tfpurify)") == []


def test_all_trainers_import_together_and_import_nothing_heavy():
    programs = [path.stem for path in (ROOT / "trainers").glob("*.py") if path.stem[0] != "_"]
    assert {"classifier", "puvae", "defensegan", "advgan"} <= set(programs)
    assert imported_by(f"import {', '.join(f'trainers.{name}' for name in programs)}") == []

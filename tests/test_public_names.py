"""Flat public names: lazily imported, complete, and known to type checkers; keyword arguments of training are typed."""

import dataclasses
import importlib.util
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import noisekiln as nk
from noisekiln.components.registry import names, rooms
from noisekiln.runs.events import Event

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("public_names", ROOT / "tools" / "public_names.py")
TOOL = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TOOL)


@pytest.mark.parametrize(("file", "made"), TOOL.WRITTEN.items())
def test_the_lists_are_up_to_date(file, made):
    assert file.read_text(encoding="utf-8") == made(), "run python tools/public_names.py"


def test_every_component_and_its_base_class_is_a_public_name():
    listed = dir(nk)
    for room in rooms():
        for name in ("base", *names(room)):
            module = importlib.import_module(f"noisekiln.{room}.{name}")
            defined = [kind for kind in vars(module).values() if getattr(kind, "__module__", "") == module.__name__]
            for kind in defined:
                if isinstance(kind, type) and not kind.__name__.startswith("_"):
                    assert getattr(nk, kind.__name__) is kind
                    assert kind.__name__ in listed


def test_the_names_of_the_field_are_there():
    for name in ("Cosine", "DDIM", "Denoising", "Chain", "Unet", "Level", "Estimate", "Text", "Muon", "Images", "EPS",
                 "denoiser", "train", "Diffusion", "Settings", "renoise", "NoisekilnError", "Run"):  # fmt: skip
        assert getattr(nk, name) is not None
    assert callable(nk.denoiser)
    taken: dict[str, object] = {}
    exec("from noisekiln import *", taken)
    assert taken["DDIM"] is nk.DDIM
    assert not [name for name in taken if name.startswith("_") and name != "__builtins__"]


@pytest.mark.parametrize("kind", typing.get_args(Event), ids=lambda kind: kind.__name__)
def test_every_attribute_of_an_event_is_documented_in_its_order(kind):
    _, _, attributes = kind.__doc__.partition("Attributes:")
    assert re.findall(r"^ {8}(\w+): ", attributes, re.MULTILINE) == [each.name for each in dataclasses.fields(kind)]


def test_no_public_name_is_that_of_a_module():
    """A module that is imported would take its place."""
    modules = {place.stem for place in (ROOT / "src" / "noisekiln").iterdir()}
    assert not modules & set(nk.__all__)


def test_a_wrong_name_has_the_nearest():
    with pytest.raises(AttributeError, match=r"noisekiln has nothing called 'DIMM'. Did you mean 'DDIM'\?"):
        nk.DIMM  # noqa: B018
    with pytest.raises(AttributeError, match="lists its names"):
        nk.qqqqqqq  # noqa: B018
    assert not hasattr(nk, "__wrapped__")


@pytest.mark.parametrize(("wrong", "near"), [("minuets", "minutes"), ("batchsize", "batch_size"), ("lables", "labels")])
def test_a_misspelt_setting_of_training_has_the_nearest_name(wrong, near, tmp_path):
    with pytest.raises(ValueError, match=f"called '{wrong}'.*['`]{near}['`]"):
        nk.train("portraits", out=tmp_path / "run", **{wrong: 3})


TYPED = """
import numpy as np
import noisekiln as nk
from noisekiln import *

def right() -> nk.Images:
    model = nk.train(np.zeros((1, 8, 8)), minutes=1, start="runs/a", labels=[1], seed=3)
    level: nk.Level = nk.level(1.0, 0.0)
    sampler: Sampler = nk.DDIM(eta=0.5)
    model.sample(3).save("a").pop()
    nk.load("runs/a").sample(2, size=(8, 16), sampler=nk.DDIM(), guidance=nk.ClassifierFree(2.0))
    nk.inpaint(model, "a.png", np.eye(8), method=nk.Replacement(), schedule=nk.Cosine(), count=2)
    nk.upscale(nk.load("runs/a"), "a.png")
    nk.train("x", sampler=nk.DDIM(), schedule=nk.Cosine(), optimizer=nk.AdamW(), draw="uniform")
    return nk.edit(model, model.sample(3)[0])

def wrong() -> None:
    nk.train("x", minuets=3)
    nk.train("x", minutes="3")
    nk.Cosinus
    nk.DDIM(etta=1)
    nk.measure("x", batchsize=3)
    model = nk.load("runs/a")
    model.sample(3, stepz=1)
    nk.generate(model, 3, guidence=1)
    one = nk.Diffusion.load("runs/a")
    nk.edit(one, "a.png", strenght=1)
    nk.inpaint(one, "a.png", np.eye(8), conditon="a")
    nk.outpaint(one, "a.png", lefft=1)
    nk.restore(one, "a.png", "blur", cuont=1)
    nk.style(one, "a.png", count=1)
    nk.upscale(one, "a.png", 2, steps="3")
    nk.variations(one, "a.png", sampler=3)
    nk.interpolate(one, [1, 2], seed=1)
"""


SETTINGS = """
[mypy]
strict = True
python_version = 3.11
[mypy-torch.*,matplotlib.*,transformers.*,diffusers.*,huggingface_hub.*]
follow_imports = skip
ignore_missing_imports = True
"""  # the types of torch, of which no name here has its own, take half a minute


@pytest.mark.slow
def test_a_type_checker_knows_names_and_settings(tmp_path):
    (tmp_path / "typed.py").write_text(TYPED, encoding="utf-8")
    (tmp_path / "mypy.ini").write_text(SETTINGS, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--cache-dir",
        ROOT / ".mypy_cache" / "names",
        "--config-file",
        "mypy.ini",
        "typed.py",
    ]
    found = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True).stdout
    lines = [line for line in found.splitlines() if line.startswith("typed.py") and "error" in line]
    expected = ['"minuets" for "train"; did you mean "minutes"?', '"minutes" to "train" has incompatible type "str"',
                'has no attribute "Cosinus"', '"etta" for "DDIM"', '"batchsize" for "measure"',
                '"stepz" for "sample"', '"guidence" for "generate"', '"strenght" for "edit"',
                '"conditon" for "inpaint"',
                '"lefft" for "outpaint"', '"cuont" for "restore"', '"count" for "style"', '"steps" to "upscale"',
                '"sampler" to "variations"', '"seed" for "interpolate"']  # fmt: skip
    assert len(lines) == len(expected), found
    assert all(part in line for part, line in zip(expected, lines, strict=True)), found

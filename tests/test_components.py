import dataclasses
import importlib
import inspect
import typing
from pathlib import Path

import pytest
import torch

import noisekiln
import noisekiln as nk
from noisekiln.backbones.base import Backbone
from noisekiln.components.registry import find, name_of, names, room_of, summary
from noisekiln.components.spec import build, describe
from noisekiln.components.spec_difference import differing_parts
from noisekiln.components.spec_paths import OF_DATA
from noisekiln.conditioners.base import Conditioner
from noisekiln.conditioners.class_label import ClassLabel
from noisekiln.draws.base import Draw
from noisekiln.draws.uniform import Uniform
from noisekiln.guidance.base import Guidance
from noisekiln.loss_weights.base import LossWeight
from noisekiln.loss_weights.uncertainty import Uncertainty
from noisekiln.loss_weights.unit import Unit
from noisekiln.objectives.base import Objective
from noisekiln.optimizers.adamw import AdamW
from noisekiln.optimizers.base import OptimizerFactory
from noisekiln.plan.chosen_components import check_components
from noisekiln.plan.settings import Settings
from noisekiln.samplers.adams import Adams
from noisekiln.samplers.ancestral import Ancestral
from noisekiln.samplers.base import Sampler
from noisekiln.samplers.ddim import DDIM
from noisekiln.schedules.base import Schedule
from noisekiln.schedules.cosine import Cosine
from noisekiln.schedules.karras import Karras
from noisekiln.schedules.linear_betas import LinearBetas

SOURCE = Path(noisekiln.__file__).parent


def abstract_class(room):
    """The one abstract class that a room's `base` module defines, or None if it defines none."""
    module = importlib.import_module(f"noisekiln.{room}.base")
    found = [kind for kind in vars(module).values() if inspect.isabstract(kind) and kind.__module__ == module.__name__]
    assert len(found) == 1, f"{module.__name__} must define exactly one abstract class, not {found}"
    return found[0]


BASES = [abstract_class(file.parent.name) for file in sorted(SOURCE.glob("*/base.py"))]
COMPONENTS = [(base, name) for base in BASES for name in names(room_of(base))]
every_component = pytest.mark.parametrize(
    ("base", "name"), COMPONENTS, ids=lambda part: getattr(part, "__name__", part)
)

CONTEXT = {"channels": 3, "vector": 5}  # arguments that come from elsewhere, for constructors that take them


def example(base, name):
    kind = find(base, name)
    return kind(**{key: value for key, value in CONTEXT.items() if key in inspect.signature(kind).parameters})


def test_settings_of_several_texts_are_words_of_the_data_or_paths():
    """Elsewhere than in `OF_DATA`, a text like "/cat" is taken for a path, and replaced when a model is pushed."""
    found = {
        (name, word)
        for base, name in COMPONENTS
        for word, hint in typing.get_type_hints(find(base, name).__init__).items()
        if str in typing.get_args(hint) and typing.get_origin(hint) is tuple
    }
    assert found == OF_DATA


@pytest.mark.parametrize(("spec", "other", "parts"), [
    ("heun", "ddim", ("heun", "ddim")), ("ddim(eta=1)", "ddim(eta = 1)", ("ddim(eta=1)", "ddim(eta = 1)")),
    ("unet(a=1, b=(2, 3))", "unet(b=(2,3), a=2, c='x')", ("unet(a=1)", "unet(a=2, c='x')")),
    ("unet(a=1)", "unet", ("unet(a=1)", "unet")), ("runs/a", "runs/b", ("runs/a", "runs/b")),
])  # fmt: skip
def test_of_two_specs_what_differs(spec, other, parts):
    assert differing_parts(spec, other) == parts


def test_all_the_rooms_are_found():
    rooms = {room_of(base) for base in BASES}
    assert {
        "schedules",
        "draws",
        "noise_labels",
        "loss_weights",
        "objectives",
        "samplers",
        "guidance",
        "backbones",
    } < rooms
    assert {"conditioners", "codecs", "optimizers", "logs", "tasks", "operators", "inverse"} < rooms


@every_component
def test_a_file_holds_one_final_class_of_its_own_name(base, name):
    kind = find(base, name)
    assert issubclass(kind, base)
    assert not inspect.isabstract(kind)
    assert kind.__name__.lower() == name.replace("_", "")
    assert name_of(kind) == name
    assert not [each for each in kind.__subclasses__() if each.__module__.startswith("noisekiln.")]  # not of a test


@every_component
def test_a_file_says_what_it_is_in_one_line(base, name):
    line = summary(room_of(base), name)
    assert line.endswith((".", ":"))
    assert 10 < len(line) < 120


@every_component
def test_settings_are_kept_under_their_own_names_and_documented(base, name):
    kind, component = find(base, name), example(base, name)
    hints = typing.get_type_hints(kind.__init__)
    settings = inspect.signature(kind).parameters if "__init__" in vars(kind) else ()
    for setting in settings:
        assert hasattr(component, setting)
        assert setting in hints
        assert f"{setting}:" in (kind.__doc__ or "")


@every_component
@pytest.mark.parametrize("whole", [False, True], ids=["short", "whole"])
def test_a_description_builds_the_same_again(base, name, whole):
    component = example(base, name)
    text = describe(component, include_defaults=whole)
    again = build(base, text)
    assert type(again) is type(component)
    assert describe(again, include_defaults=True) == describe(component, include_defaults=True)
    if dataclasses.is_dataclass(component):
        assert again == component


@pytest.mark.parametrize(
    ("base", "text", "component"),
    [
        (Sampler, "adams", Adams()),
        (Sampler, "adams()", Adams()),
        (Sampler, " ddim( eta = 0.5 ) ", DDIM(0.5)),
        (Sampler, "ddim(eta=1)", DDIM(1.0)),
        (Sampler, "ancestral(variance='large')", Ancestral("large")),
        (Sampler, "ancestral(variance=large)", Ancestral("large")),
        (Schedule, "karras(sigma_min=1e-3, rho=5)", Karras(sigma_min=0.001, rho=5.0)),
        (Schedule, "linear_betas(steps=100)", LinearBetas(100)),
        (Draw, "uniform(schedule=cosine(offset=0))", Uniform(Cosine(0.0))),
        (Draw, "uniform(schedule=karras)", Uniform(Karras())),
        (OptimizerFactory, "adamw(weight_decay=1)", AdamW(weight_decay=1.0)),
    ],
)
def test_a_spec_is_the_call_written_down(base, text, component):
    built = build(base, text)
    assert built == component
    assert build(base, describe(built)) == component
    assert build(base, component) is component


def test_the_first_word_of_a_name_is_enough_and_may_be_a_word_of_python():
    assert name_of(find(Conditioner, "class")) == "class_label"
    assert build(Conditioner, "class(width=8)").width == 8
    with pytest.raises(ValueError, match="There is no sampler called 'dpm'"):  # not a whole word of it
        find(Sampler, "dpm")


@pytest.mark.parametrize(
    "spec",
    ["uniform(schedule={file}:Mine)", "uniform(schedule=lambda x=a . py : b)", "uniform(schedule=({file!r}, 1))"],
)
def test_a_component_inside_of_a_spec_never_comes_from_a_file(spec, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("raise SystemExit('this was run')")
    with pytest.raises(ValueError, match=r"cannot be read as a setting|no schedule called"):
        build(Draw, spec.format(file=str(file)))


def test_a_component_from_a_file_takes_settings_and_may_lie_anywhere(tmp_path):
    file = tmp_path / "odd (1).py"
    file.write_text(MINE % 0.5)
    assert build(Sampler, f"{file}:Mine(much=0.25)").much == 0.25


def test_a_spec_is_short_unless_defaults_are_included():
    assert describe(DDIM()) == "ddim"
    assert describe(DDIM(0.5)) == "ddim(eta=0.5)"
    assert describe(DDIM(), include_defaults=True) == "ddim(eta=0.0)"
    assert describe(Uniform(Cosine(0.0))) == "uniform(schedule=cosine(offset=0.0))"
    assert describe(Uniform(), include_defaults=True) == "uniform(schedule=cosine(offset=0.008))"


def test_a_component_that_may_be_none_can_be_named():
    objective = build(Objective, "denoising(draw=uniform, loss_weight=uncertainty(features=7))")
    assert isinstance(objective.loss_weight, Uncertainty)
    assert objective.loss_weight.features == 7
    assert isinstance(build(Objective, "denoising(loss_weight=None)").loss_weight, Unit)


def test_infinity_can_be_written_in_a_spec():
    assert build(Guidance, "classifier_free(high=inf)").high == float("inf")
    assert build(Guidance, "classifier_free(high=9)").high == 9.0


def test_names_with_any_sign_survive():
    names_ = ("a:b", "it's", 'say "x"', "x(1, 2)", "no.py: 3", "\n", "ä")
    conditioner = ClassLabel(names_, 4)
    assert build(Conditioner, describe(conditioner)).names == names_


def test_given_arguments_fill_what_the_spec_may_not_name():
    from noisekiln.backbones.base import Backbone

    backbone = build(Backbone, "simple_unet(width=8)", channels=2, vector=3, unheard_of=1)
    assert (backbone.channels, backbone.vector, backbone.width) == (2, 3, 8)
    with pytest.raises(ValueError, match="no setting called 'channels'"):
        build(Backbone, "simple_unet(channels=3)", channels=2)


@pytest.mark.parametrize(
    ("base", "text", "says"),
    [
        (Sampler, "huen", "There is no sampler called 'huen'. Did you mean 'heun'?"),
        (Sampler, "DDIM", "Did you mean 'ddim'?"),
        (Sampler, "xyz", "Known samplers: adams,"),
        (Sampler, "base", "There is no sampler called 'base'"),
        (Schedule, "cosinus", "There is no schedule called 'cosinus'. Did you mean 'cosine'?"),
        (Sampler, "ddim(etta=1)", "ddim has no setting called 'etta'. Did you mean 'eta'?"),
        (Sampler, "heun(eta=1)", "heun has no setting called 'eta'. It has no settings."),
        (Sampler, "ddim(eta='a')", "eta='a' is not of the type float"),
        (Sampler, "ddim(eta=True)", "is not of the type float"),
        (Sampler, "ddim(eta=2)", "between 0 and 1"),
        (Sampler, "ancestral(variance='huge')", "is not of the type"),
        (Schedule, "linear_betas(steps=1.5)", "is not of the type int"),
        (Draw, "uniform(schedule=cosinus)", "There is no schedule called 'cosinus'"),
        (Draw, "uniform(schedule=cosine(ofset=0))", "Did you mean 'offset'?"),
        (LossWeight, "min_snr(gamma=None)", "is not of the type float"),
        (Backbone, "unet(channels=1, widths=('a',), blocks=(1,))", "is not of the type tuple[int, ...]"),
    ],
)
def test_errors_suggest_the_nearest_name(base, text, says):
    with pytest.raises(ValueError) as caught:
        build(base, text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(",
        "ddim(0.5)",
        "ddim(eta=1",
        "ddim(**x)",
        "1",
        "a.b",
        "ddim(eta=1, eta=0)",
        "ddim;heun",
        "f(1)(2)",
        "\0",
        "x.py:",
    ],
)
def test_what_is_no_spec_is_refused(text):
    with pytest.raises(ValueError, match=r"cannot be read as a setting\. Write name"):
        build(Sampler, text)


@pytest.mark.parametrize(
    "text", ["ddim(eta=__import__('os').getpid())", "ddim(eta=open('x'))", "ddim(eta=[x for x in ()])"]
)
def test_nothing_is_evaluated(text):
    with pytest.raises(ValueError, match="is not of the type float"):
        build(Sampler, text)


# --- other people's components

MINE = '''
from dataclasses import dataclass
from noisekiln.samplers.base import Sampler

@dataclass(frozen=True)
class Mine(Sampler):
    """Mine."""
    order = 1
    cost = 1
    much: float = %s

    def step(self, denoise, x_t, t, s, carry, noise):
        return denoise(x_t, t).at(s), None

class NotOne:
    pass
'''


@pytest.mark.parametrize("folder", ["plain", "with (1) space"])
def test_a_component_of_ones_own_file(tmp_path, folder):
    file = tmp_path / folder / "mine.py"
    file.parent.mkdir()
    file.write_text(MINE % 0.5)
    assert build(Sampler, f"{file}:Mine").much == 0.5
    mine = build(Sampler, f"{file}:Mine(much=2)")
    assert mine.much == 2.0
    assert describe(mine) == f"{file}:Mine(much=2.0)"
    assert build(Sampler, describe(mine, include_defaults=True)).much == 2.0


def test_two_files_of_one_name_are_two_files(tmp_path):
    first, second = tmp_path / "a" / "mine.py", tmp_path / "b" / "mine.py"
    for file, much in ((first, 1.0), (second, 2.0)):
        file.parent.mkdir()
        file.write_text(MINE % much)
    one, two = build(Sampler, f"{first}:Mine"), build(Sampler, f"{second}:Mine")
    assert describe(one) == f"{first}:Mine"
    assert describe(two) == f"{second}:Mine"


def test_errors_in_a_file_spec_are_explained(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE % 0.5)
    for text, says in (
        (f"{tmp_path}/none.py:Mine", "which does not exist"),
        (f"{file}:Other", "has no Sampler called 'Other'"),
        (f"{file}:NotOne", "Derive one from noisekiln.samplers.base"),
        (f"{file}:Sampler", "has no Sampler called 'Sampler'"),
        (f"{file}:Mine(mutch=1)", "Did you mean 'much'?"),
    ):
        with pytest.raises(ValueError) as caught:
            build(Sampler, text)
        assert says in str(caught.value)


BROKEN = """
from noisekiln.optimizers.base import OptimizerFactory


class Mine(OptimizerFactory):
    lr = 0.1

    def __init__(self, momentum: float%s) -> None:
        self.%s = momentum

    def __call__(self, module, network):
        raise NotImplementedError
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class Mine(:", "cannot be imported (SyntaxError: invalid syntax"),
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'). Correct it"),
        ("1 / 0", "ZeroDivisionError: division by zero). Correct it"),
        ("raise SystemExit", "cannot be imported (SystemExit). Correct it"),
        (BROKEN.replace("lr = ", "rate = ") % ("", "momentum"), "it lacks lr. Define it in the class"),
        (BROKEN.replace("__call__", "step") % ("", "momentum"), "no complete OptimizerFactory: it lacks __call__."),
        (BROKEN % ("", "momentum"), "needs the setting 'momentum', which has no default. Give it"),
        (BROKEN % (" = 0.9", "other"), "does not keep its argument 'momentum', so it could not be saved. Keep it"),
    ],
)
def test_mistakes_in_a_file_are_explained(tmp_path, text, says):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(ValueError) as caught:
        build(OptimizerFactory, f"{file}:Mine")
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_script_that_uses_its_own_component_unguarded_is_told_how(tmp_path):
    file = tmp_path / "mine.py"
    for _ in range(2):
        file.write_text(
            f"{MINE % 0.5}\nfrom noisekiln.components.spec import build\nbuild(Sampler, __file__ + ':Mine')"
        )
        with pytest.raises(
            ValueError, match=r'mine.py. uses its own component .* under `if __name__ == "__main__":`.$'
        ):
            build(Sampler, f"{file}:Mine")
        file.write_text(MINE % 0.25)
        assert build(Sampler, f"{file}:Mine").much == 0.25


def test_a_file_runs_once_until_it_changes(tmp_path):
    file, ran = tmp_path / "mine.py", tmp_path / "ran"
    for content in (MINE % 0.5, MINE % 0.25):
        file.write_text(f"open({str(ran)!r}, 'a').write('x')\n{content}")
        assert find(Sampler, f"{file}:Mine") is find(Sampler, f"{tmp_path}/../{tmp_path.name}/mine.py:Mine")
    assert ran.read_text() == "xx"


def test_checking_components_leaves_the_random_state():
    before = torch.get_rng_state()
    check_components(Settings(cond=f"{Path(__file__).parent / 'toys' / 'position_conditioner.py'}:Position"))
    assert torch.equal(torch.get_rng_state(), before)


def test_only_python_source_is_a_file_of_ones_own(tmp_path):
    """`Diffusion.load` looks for ".py:"; nothing else that Python could import may slip past it."""
    import py_compile

    file = tmp_path / "mine.py"
    file.write_text(MINE % 0.5)
    compiled = py_compile.compile(str(file), cfile=str(tmp_path / "mine.pyc"))
    with pytest.raises(ValueError, match="cannot be read as a setting"):
        build(Sampler, f"{compiled}:Mine")


@pytest.mark.parametrize("spec", ["unet(condition=-1)", "strided_unet(width=-8)", "unet(widths=(640000,),blocks=(1,))"])
def test_what_torch_cannot_build_is_refused_in_words(spec):
    with pytest.raises(ValueError, match=r"cannot be built: .*\. Give other numbers\."):
        build(Backbone, spec, channels=3, vector=0, image=0, tokens=0)


@pytest.mark.parametrize(
    ("setting", "component", "spec"),
    [
        ("sampler", nk.DDIM(eta=0.5), "ddim(eta=0.5)"),
        ("schedule", nk.Cosine(), "cosine"),
        ("guidance", nk.ClassifierFree(3.0), "classifier_free(scale=3.0)"),
        ("draw", nk.Uniform(schedule=nk.Rectified()), "uniform(schedule=rectified)"),
        ("optimizer", nk.AdamW(weight_decay=0.1), "adamw(weight_decay=0.1)"),
        ("task", nk.Upscale(2), "upscale(factor=2)"),
        ("objective", nk.Denoising(), "denoising(loss_weight=unit)"),
    ],
)
def test_a_component_without_weights_is_a_setting_as_its_spec(setting, component, spec):
    assert getattr(Settings(**{setting: component}), setting) == spec


class InThisTest(nk.Sampler):
    def step(self, denoise, x_t, t, s, carry, noise):
        return denoise(x_t, t).at(s), None


def test_a_component_that_no_spec_would_make_again_is_refused_as_a_setting():
    with pytest.raises(ValueError, match=r"`loss_weight`: a Uncertainty object .* holds weights.*=uncertainty`"):
        Settings(loss_weight=nk.Uncertainty())
    with pytest.raises(ValueError, match=r"`backbone`: a Unet object was given, which holds weights"):
        Settings(backbone=nk.Unet(1, 0, widths=(32,), blocks=(1,)))
    with pytest.raises(ValueError, match=r"`sampler`: the class DDIM itself was given. Give an object of it, DDIM\(\)"):
        Settings(sampler=nk.DDIM)
    with pytest.raises(ValueError, match="There is no sampler called 'cosine'"):
        check_components(Settings(sampler=nk.Cosine()))

    class Local(InThisTest):
        pass

    with pytest.raises(ValueError, match="the class Local is in no file"):
        Settings(sampler=Local())
    assert Settings(sampler=InThisTest()).sampler == f"{__file__}:InThisTest"

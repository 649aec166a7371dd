"""Imports go strictly down the layers, every name says one thing, and some words never appear."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

import noisekiln

SOURCE = Path(noisekiln.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
MODULES = sorted(str(file.relative_to(SOURCE).with_suffix("")) for file in FILES)

# From the ground up: a module or room may import what stands before it, and its own room.
LAYERS = [
    *("version", "errors", "paths"),
    *("levels", "estimate", "predictions", "posterior", "conditions"),  # the mathematics
    "components",  # what is chosen by name
    *("files", "data", "machine", "distributed", "images"),  # know nothing of diffusion
    *("schedules", "textbook", "draws", "noise_labels", "loss_weights"),  # curves and choices
    *("blocks", "operators", "codecs", "conditioners", "backbones", "tasks"),  # what is learned, what is seen
    "autoencoding",
    *("denoisers", "objectives", "optimizers"),
    *("samplers", "guidance", "inverse", "flow"),  # how a sampler moves, where a model aims
    *("ema", "logs", "training", "metrics", "features"),  # know nothing of diffusion
    *("model", "uses", "plots", "pretrained"),
    *("plan", "monitor", "session", "evaluation", "runs", "interop"),
    *("api", "public", "cli", "web"),
    *("__init__", "__main__"),
]
HEIGHT = {room: number for number, room in enumerate(LAYERS)}
WITHOUT_DIFFUSION = {  # rooms that know nothing of diffusion, and all that they may import
    "errors": set(),
    "paths": set(),
    "components": {"errors", "paths"},
    "files": {"version", "errors", "paths"},
    "data": {"errors", "paths", "files"},
    "machine": {"errors"},
    "distributed": {"errors"},
    "ema": {"errors", "files", "distributed", "machine"},
    "logs": {"components", "files"},
    "training": {"errors", "files", "distributed", "machine", "ema"},
    "metrics": set(),
    "features": {"errors", "paths", "files", "machine"},
}


def room(file):
    """The first part of a module's name: a room, or the module itself."""
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(file):
    """Modules of the package that a file imports, wherever in it: ("samplers.base", line)."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively; the package's imports are absolute"
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name if is_module(name) else node.module for name in below]
        else:
            continue
        for module in modules:
            if module == "noisekiln" or module.startswith("noisekiln."):
                yield module.removeprefix("noisekiln").lstrip(".") or "__init__", node.lineno


def is_module(name):
    place = SOURCE.parent / name.replace(".", "/")
    return name.startswith("noisekiln.") and (place.is_dir() or place.with_suffix(".py").is_file())


IMPORTS = sorted({(file, other, line) for file in FILES for other, line in imported(file)})
EDGES = sorted(
    {(room(file), other.split(".")[0], str(file.relative_to(SOURCE)), line) for file, other, line in IMPORTS}
)


def test_every_room_has_a_layer():
    homeless = {room(file) for file in FILES} - set(LAYERS)
    assert not homeless, f"say in LAYERS where {homeless} stand"


def test_imports_are_seen():
    assert ("samplers", "estimate") in {edge[:2] for edge in EDGES}
    assert ("draws", "schedules") in {edge[:2] for edge in EDGES}
    assert len(EDGES) > 300


def test_imports_go_strictly_down():
    up = [
        f"{file}:{line} imports {other}"
        for mine, other, file, line in EDGES
        if mine != other and HEIGHT[mine] <= HEIGHT[other]
    ]
    assert not up, up


@pytest.mark.parametrize("mine", WITHOUT_DIFFUSION)
def test_some_rooms_know_nothing_of_diffusion(mine):
    allowed = WITHOUT_DIFFUSION[mine] | {mine}
    wrong = [
        f"{file}:{line} imports {other}" for here, other, file, line in EDGES if here == mine and other not in allowed
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("mine", ["samplers", "guidance"])
def test_how_to_move_and_where_to_aim_do_not_know_networks(mine):
    """Their only view of a model is `Denoise`."""
    networks = {"denoisers", "backbones", "conditions", "conditioners"}
    wrong = [edge for edge in EDGES if edge[0] == mine and edge[1] in networks]
    assert not wrong, wrong


def test_sampling_needs_nothing_of_training():
    """What `model` and `uses` import, however long the way, is what a server of a trained model needs."""
    training = {"draws", "loss_weights", "objectives", "optimizers", "ema", "logs", "training", "metrics"}
    needed = {"model", "uses"}
    while more := {other for mine, other, _, _ in EDGES if mine in needed} - needed:
        needed |= more
    assert not needed & training
    assert {"samplers", "guidance", "codecs"} <= needed


def test_no_modules_import_each_other_in_a_circle():
    """In rooms and between them, imports inside of functions too: so all modules have an order, from the ground up."""
    below = {}
    for file, other, _ in IMPORTS:
        module = ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        if module != other:
            below.setdefault(module, set()).add(other)
    assert "model.diffusion" in below["model.cascade"]
    while below:
        ground = [module for module, others in below.items() if not others & set(below)]
        assert ground, f"these import each other in a circle: {sorted(below)}"
        for module in ground:
            del below[module]


def test_importing_noisekiln_imports_no_torch():
    """`noisekiln --help` answers at once; what needs torch is imported when it is used."""
    import subprocess
    import sys

    code = "import sys, noisekiln; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- names


def test_no_module_is_called_utils_or_similar():
    named = [part for file in FILES for part in file.relative_to(SOURCE).with_suffix("").parts]
    assert not {"utils", "util", "helpers", "common", "misc", "manager", "scheduler"} & set(named)


def test_no_two_modules_have_one_name():
    """Commands are named like what is typed; readers of data are named like the formats."""
    free = [name for name in MODULES if not name.startswith("cli/")]
    counts = Counter(Path(name).name for name in free if Path(name).name not in {"__init__", "base", "__main__"})
    twice = {name: [m for m in free if Path(m).name == name] for name, count in counts.items() if count > 1}
    assert not twice, twice


def test_no_two_classes_have_one_name():
    found = [
        (node.name, str(file.relative_to(SOURCE)))
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    counts = Counter(name for name, _ in found)
    twice = [(name, file) for name, file in found if counts[name] > 1]
    assert not twice, twice


def test_no_two_private_functions_have_one_name():
    """`_` is the name of all functions that are registered for a type."""
    found = [
        (node.name, str(file.relative_to(SOURCE)))
        for file in FILES
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("_") and node.name != "_"
    ]
    counts = Counter(name for name, _ in found)
    twice = [(name, file) for name, file in found if counts[name] > 1]
    assert not twice, twice


EVERYWHERE = set("xtsyw_ijT")
MATHEMATICS = {"posterior", "predictions", "schedules", "draws", "loss_weights", "metrics", "inverse", "operators"}
MATHEMATICS |= {"blocks", "backbones", "tasks"}
FORMULAS = {"data/split.py": {"z"}, "monitor/held_out.py": {"u"}, "uses/interpolation.py": {"a", "b"}}
FORMULAS |= {"pretrained/lucidrains_unet.py": set("bhqkv")}  # a network


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_names_of_one_letter_stand_in_formulas(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    letters = {name for name in names if len(name) == 1} - EVERYWHERE
    assert letters <= FORMULAS.get(str(file.relative_to(SOURCE)), set()) or room(file) in MATHEMATICS


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_line_sets_at_most_two_attributes(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    targets = [
        target
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Tuple) and len(target.elts) > 2
    ]
    several = [target for target in targets if any(isinstance(each, ast.Attribute) for each in target.elts)]
    assert not several, [ast.unparse(target) for target in several]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_file_is_long(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 300


TOYS = sorted(Path(__file__).parent.joinpath("toys").glob("*.py"))


def classes():
    """Classes of the package and of components from outside, by name: the definition and its bases' names."""
    found = {}
    for file in [*FILES, *TOYS]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
                found[node.name] = node, [base.id for base in bases if isinstance(base, ast.Name)]
    return found


def members(node):
    """Methods of a class, and class variables that have a value, by name."""
    methods = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
    values = [each for each in node.body if isinstance(each, ast.AnnAssign) and each.value is not None]
    variables = {each.target.id: each for each in values if ast.unparse(each.annotation).startswith("ClassVar")}
    return methods | variables


def is_abstract(method):
    return any("abstract" in ast.unparse(decorator) for decorator in getattr(method, "decorator_list", ()))


CLASSES = classes()


def ancestors(name):
    for base in CLASSES[name][1] if name in CLASSES else ():
        yield from [base, *ancestors(base)]


def may_be_overridden(base, member):
    """Whether the docstring of the method, or for a variable that of its class, says so."""
    said = " ".join((ast.get_docstring(member if isinstance(member, ast.FunctionDef) else base) or "").split())
    if isinstance(member, ast.FunctionDef):
        return "May be overridden" in said
    return any(f"`{member.target.id}`" in sentence and "may be overridden" in sentence for sentence in said.split(". "))


def test_what_a_class_replaces_is_abstract_or_a_hook_that_says_so():
    found = [
        f"{name}.{replaced} replaces that of {base}"
        for name, (node, _) in CLASSES.items()
        for base in ancestors(name)
        if base in CLASSES
        for replaced, member in members(CLASSES[base][0]).items()
        if replaced in members(node) and replaced != "__init__" and not is_abstract(member)
        if not may_be_overridden(CLASSES[base][0], member)
    ]
    assert not found, found


def test_a_class_is_abstract_or_final():
    """Errors are told apart by their class, so those may stand below a concrete one."""
    bases = {base for name in CLASSES for base in ancestors(name)} & set(CLASSES)
    concrete = {base for base in bases if "ABC" not in CLASSES[base][1] and "Exception" not in CLASSES[base][1]}
    assert bases >= {"Sampler", "Backbone", "NoisekilnError"}
    assert not concrete


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_function_is_long(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {f"{file.relative_to(SOURCE)}: {node.name}" for node in functions if node.end_lineno - node.lineno >= 50}
    assert not long, long


FORBIDDEN = {
    r"prediction(\.name|_type)? ==": "predictions are pairs of coefficients; a new one needs no ladder",
    r"\bhasattr\(": "declare the attribute in the type",
    r"\.ndim <|\.dim\(\) <": "levels broadcast as they are",
    r"(import|from) torchvision\b": "it breaks CPU builds of torch; PIL, numpy and F.interpolate do all that is needed",
    r"\bpickle\.loads?\b|\bimport pickle\b": "a file from another person must not run code",
    r"weights_only\s*=\s*False|allow_pickle\s*=\s*True": "a file from another person must not run code",
    r"\byaml\.(unsafe_|full_)?load\(": "a file from another person must not run code",
    r"(?<![\w.])(eval|exec)\(": "text is parsed, never evaluated",
}


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_some_words_never_appear(pattern):
    found = [
        f"{file.relative_to(SOURCE)}:{number}: {line.strip()}"
        for file in FILES
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not found, f"{FORBIDDEN[pattern]}: {found}"


def test_only_due_times_know_when_a_multiple_is_passed():
    """When something is due is decided in `training/due.py`, from the quotient of two integers as anywhere else."""
    found = [
        f"{file.relative_to(SOURCE)}:{node.lineno}: {ast.unparse(node)}"
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare) and file.name != "due.py"
        if any(
            isinstance(side, ast.BinOp) and isinstance(side.op, ast.FloorDiv) for side in (node.left, *node.comparators)
        )
    ]
    assert not found, found


SCRIPT = "onnx_sample.py"  # is copied into exports, and runs there as a command of its own
BELOW_CLI = [file for file in FILES if HEIGHT.get(room(file), 0) < HEIGHT["cli"]]


@pytest.mark.parametrize("file", BELOW_CLI, ids=lambda file: str(file.relative_to(SOURCE)))
def test_nothing_below_the_command_line_prints_or_names_a_flag(file):
    """Messages and help name settings in backticks, which the command line renders as its flags."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    prints = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
    assert not prints or file.name == SCRIPT
    makers = {"setting", *partials_of_setting(tree)}
    names = {
        id(word.value) for call in calls if is_call_of(call, makers) for word in call.keywords if word.arg == "flag"
    }
    flags = [
        f"line {node.lineno}: {node.value[:60]!r}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in names
        if re.search(r"(?<![\w-])--[a-z][a-z-]+", node.value) and not is_docstring(node, tree)
        if node.value not in {"--porcelain", "--untracked-files=no"}  # git's
    ]
    assert not flags, flags


def is_call_of(call, names):
    return isinstance(call.func, ast.Name) and call.func.id in names


def partials_of_setting(tree):
    """Names at the top of a module that are ``partial(setting, ...)``."""
    made = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)]
    return {
        node.targets[0].id
        for node in made
        if is_call_of(node.value, {"partial"}) and ast.unparse(node.value.args[0]) == "setting"
    }


def is_docstring(node, tree):
    bodies = [part.body for part in ast.walk(tree) if isinstance(part, ast.Module | ast.ClassDef | ast.FunctionDef)]
    return any(body and isinstance(body[0], ast.Expr) and body[0].value is node for body in bodies)

"""The source of some classes with all that they use of noisekiln, as one Python file that runs without it.

Definitions are followed by their names, from module to module, and methods are kept only if some kept code mentions
their name: what serves training alone (`fit`, `preview`, statistics of data) and the modules it needs stay behind.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping

from noisekiln.interop.parsed_module import (
    Import,
    Name,
    bound_names,
    check_installed,
    free_names,
    is_followed,
    resolve,
    source_of,
    without_annotations,
)

ALWAYS = ("forward",)  # methods that torch calls, beside those with two underscores
NOT_NEEDED = ("__reduce_ex__", "__repr__")


def name_of_class(kind: type) -> Name:
    """The name of a class at the top of a module."""
    return Name(kind.__module__, kind.__qualname__)


def extract_source(roots: Iterable[Name], used: Iterable[str] = ()) -> tuple[str, Mapping[Name, str]]:
    """The source of definitions and of all that they need, without noisekiln.

    Args:
        roots: The definitions; those of a user's own files may be among them.
        used: Names of methods that are called from outside of the text.

    Returns:
        The text of a module, without a docstring, and the name of each definition in it.

    Raises:
        ValueError: If a user's own file imports another one from beside it.
    """
    extract, names = _Extract(), list(roots)
    extract.attributes.update(used)
    for name in names:
        extract.keep(name)
    extract.follow()
    return extract.text(), {name: extract.final_name(name) for name in names}


class _Extract:
    """The definitions that are kept so far, and the names of attributes that their code mentions."""

    def __init__(self) -> None:
        self.kept: dict[Name, ast.stmt] = {}
        self.imports: set[Import] = set()
        self.attributes: set[str] = set(ALWAYS)
        self.used_by: dict[str, set[str]] = {}  # module -> the modules of what it uses
        self._done: set[int] = set()  # parts of the trees whose names were followed

    def keep(self, name: Name) -> None:
        """Keep a definition of noisekiln or of a user's file, or the import of something else."""
        found = resolve(name)
        if isinstance(found, Import):
            check_installed(name.module, found)
            self.imports.add(found)
        elif found is not None:
            self.kept.setdefault(found, source_of(found.module).definitions[found.name])
            if found.module != name.module:
                self.used_by.setdefault(name.module, set()).add(found.module)

    def follow(self) -> None:
        """Keep whatever is used by what is kept, until nothing is added."""
        before = -1
        while before != len(self._done):
            before = len(self._done)
            for name, node in list(self.kept.items()):
                for part in self._live_parts(node):
                    if id(part) not in self._done:
                        self._done.add(id(part))
                        self._follow_part(name.module, part)

    def text(self) -> str:
        """All that is kept, the imports first, then each module's definitions after those that it imports."""
        blocks = [ast.unparse(ast.fix_missing_locations(self._final(name))) for name in self._in_order()]
        lines = ["from __future__ import annotations", "", *sorted({each.statement() for each in self.imports}), ""]
        return "\n".join(lines) + "\n\n" + "\n\n\n".join(blocks) + "\n"

    def final_name(self, name: Name) -> str:
        """The name of a definition in the text; that of its module is added where two modules have the same."""
        found = resolve(name)
        assert isinstance(found, Name)
        same = [each for each in self.kept if each.name == found.name]
        return found.name if len(same) == 1 else f"{found.name}_of_{found.module.rsplit('.', 1)[-1]}"

    def _follow_part(self, module: str, part: ast.AST) -> None:
        bare = without_annotations(part)
        self.attributes |= {node.attr for node in ast.walk(bare) if isinstance(node, ast.Attribute)}
        for name in free_names(bare):
            self.keep(Name(module, name))

    def _live_parts(self, node: ast.stmt) -> Iterator[ast.AST]:
        """The parts of a definition that run: of a class, all but the methods that nothing mentions."""
        if not isinstance(node, ast.ClassDef):
            yield node
            return
        yield from [*node.bases, *node.decorator_list]
        yield from (part for part in node.body if self._is_live(part))

    def _is_live(self, part: ast.stmt) -> bool:
        if isinstance(part, ast.FunctionDef):
            name = part.name
            special = name.startswith("__") and name.endswith("__") and name not in NOT_NEEDED
            return special or name in self.attributes
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            return not ast.unparse(part.annotation).startswith("ClassVar") or part.target.id in self.attributes
        return True

    def _in_order(self) -> list[Name]:
        """The kept definitions, each module's after those of the modules that it uses, as in its file."""
        modules: dict[str, None] = {}

        def visit(module: str, seen: frozenset[str]) -> None:
            for other in sorted(self.used_by.get(module, set()) - seen):
                visit(other, seen | {module})
            modules.setdefault(module)

        for name in self.kept:
            visit(name.module, frozenset())
        place = {module: number for number, module in enumerate(modules)}
        return sorted(self.kept, key=lambda name: (place[name.module], self.kept[name].lineno))

    def _final(self, name: Name) -> ast.stmt:
        """A definition as it is written: without what is not live, with annotations that can be resolved."""
        node = ast.parse(ast.unparse(self.kept[name])).body[0]
        if isinstance(node, ast.ClassDef):
            node.body = [part for part in node.body if self._is_live(part)] or [ast.Pass()]
        finished = _Finish(self, name.module).visit(node)
        assert isinstance(finished, ast.stmt)
        return finished

    def annotated(self, module: str, annotation: ast.expr | None) -> ast.expr | None:
        """An annotation, if all of its names are kept or can be imported from elsewhere; else None."""
        if annotation is None:
            return None
        found = [resolve(Name(module, name)) for name in free_names(annotation)]
        if any(isinstance(each, Name) and each not in self.kept for each in found):
            return None
        self.imports |= {each for each in found if isinstance(each, Import)}
        return annotation


class _Finish(ast.NodeTransformer):
    """Drops annotations that cannot be resolved, and renames definitions whose name another module has too."""

    def __init__(self, extract: _Extract, module: str) -> None:
        self.extract, self.module = extract, module
        self.bound: set[str] = set()  # parameters and variables of the functions around

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = self.extract.annotated(self.module, node.annotation)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = self.extract.annotated(self.module, node.returns)
        node.name = self._final_name(node.name) if node.col_offset == 0 else node.name
        outside, self.bound = self.bound, self.bound | bound_names(node)
        finished = self.generic_visit(node)
        self.bound = outside
        return finished

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.name = self._final_name(node.name)
        return self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        return ast.Pass() if is_followed(node.module or "") else node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        kept = self.extract.annotated(self.module, node.annotation)
        node.annotation = kept or ast.Name("object", ast.Load())
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = node.id if node.id in self.bound else self._final_name(node.id)
        return node

    def _final_name(self, name: str) -> str:
        """The name in the text, of a kept definition; otherwise the name itself."""
        source = source_of(self.module)
        if name not in source.definitions and name not in source.imports:
            return name
        found = resolve(Name(self.module, name))
        return self.extract.final_name(found) if found in self.extract.kept else name

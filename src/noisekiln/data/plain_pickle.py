"""Reading of pickled numbers, texts, lists, dicts and numpy arrays; there is no way for a pickle to run code."""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

Kind = TypeVar("Kind")

_MARK = object()


def load_plain_pickle(content: bytes) -> Any:
    """The content of a pickle of plain data, with arrays alone or as values of a dict.

    The opcodes are interpreted here: names in a pickle are compared with those of numpy's arrays, and never imported.

    Raises:
        ValueError: If it is damaged, or holds anything else.
    """
    try:
        return _with_arrays(_Machine().run(content))
    except Exception as error:  # a broken pickle raises errors of any class
        raise ValueError(str(error) or type(error).__name__) from error


@dataclass
class _Name:
    """A function or class that a pickle names."""

    module: str
    name: str


class _DType:
    """Kind of an array's numbers."""

    def __init__(self, spec: Any) -> None:
        self.spec = _decoded(spec)

    def build(self, state: Any) -> None:
        """Set the byte order, where there is one."""
        order = _decoded(state[1])
        self.spec = order + self.spec.lstrip("<>|=") if order in ("<", ">") else self.spec


class _Array:
    """An array, which gets its values once it is built."""

    values: Any = None

    def build(self, state: Any) -> None:
        """Set the values."""
        _, shape, dtype, fortran, raw = state
        kind = np.dtype(dtype.spec)
        if kind.hasobject:
            raise ValueError("it holds Python objects, which can run code")
        content = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)
        self.values = np.frombuffer(content, kind).reshape(shape, order="F" if fortran else "C")


class _Machine:
    """A machine for the opcodes of plain data: a stack, and a memo of what occurs again."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        """The object that the opcodes make."""
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name in _VALUES:
                self.stack.append(argument)
            else:
                _OPCODES.get(opcode.name, _Machine.refuse)(self, argument)
        raise ValueError("it ends early")

    def refuse(self, _: Any) -> None:
        """Any other opcode."""
        raise ValueError("it holds more than numbers, texts, lists, dicts and arrays")

    def since_mark(self) -> list[Any]:
        """Everything above the last mark, which is removed."""
        start = next(index for index in range(len(self.stack) - 1, -1, -1) if self.stack[index] is _MARK)
        found = self.stack[start + 1 :]
        del self.stack[start:]
        return found

    def last(self, count: int) -> list[Any]:
        """The last few objects, which are removed."""
        found = self.stack[-count:]
        del self.stack[-count:]
        return found

    def extend(self, items: list[Any]) -> None:
        """Add to the list on top."""
        _expect(list, self.stack[-1]).extend(items)

    def update(self, pairs: list[Any]) -> None:
        """Add keys and values in turn to the dict on top."""
        _expect(dict, self.stack[-1]).update(zip(pairs[::2], pairs[1::2], strict=True))

    def start_dict(self) -> None:
        """A dict from what is above the last mark."""
        pairs = self.since_mark()
        self.stack.append({})
        self.update(pairs)

    def name(self, module: Any, name: Any) -> None:
        """A name, if it is one of numpy's arrays."""
        found = _Name(_decoded(module).replace("numpy._core", "numpy.core"), _decoded(name))
        if (found.module, found.name) not in _NAMES:
            raise ValueError(f"it names {_decoded(module)}.{_decoded(name)}, and might run code")
        self.stack.append(found)

    def call(self, _: Any) -> None:
        """What numpy calls to make an array."""
        function, arguments = self.last(2)
        found = _expect(_Name, function)
        self.stack.append(_NAMES[found.module, found.name](*arguments))

    def build(self, _: Any) -> None:
        """Set the state of an array or of its kind."""
        target, state = self.stack[-2], self.stack.pop()
        if not isinstance(target, _Array | _DType):
            raise ValueError("it changes an object that is no array")
        target.build(state)


def _expect(kind: type[Kind], value: Any) -> Kind:
    if not isinstance(value, kind):
        raise ValueError(f"it uses a {type(value).__name__} as a {kind.__name__}")
    return value


def _decoded(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _encoded(text: str, *_: Any) -> bytes:
    return text.encode("latin1")  # as protocol 2 of Python 3 stores bytes


def _with_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: each.values if isinstance(each, _Array) else each for key, each in value.items()}
    return value.values if isinstance(value, _Array) else value


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy", "ndarray"): lambda *_: _Array(),
    ("numpy", "dtype"): lambda spec, *_: _DType(spec),
    ("_codecs", "encode"): _encoded,
}
_VALUES = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"}
    | {"SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES"}
    | {"BINBYTES8"}
)
_OPCODES: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "MARK": lambda machine, _: machine.stack.append(_MARK),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.last(1))),
    "TUPLE2": lambda machine, _: machine.stack.append(tuple(machine.last(2))),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.last(3))),
    "LIST": lambda machine, _: machine.stack.append(machine.since_mark()),
    "DICT": lambda machine, _: machine.start_dict(),
    "APPEND": lambda machine, _: machine.extend(machine.last(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.update(machine.last(2)),
    "SETITEMS": lambda machine, _: machine.update(machine.since_mark()),
    "MEMOIZE": lambda machine, _: machine.memo.update({len(machine.memo): machine.stack[-1]}),
    "GLOBAL": lambda machine, names: machine.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.last(2)),
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
    **dict.fromkeys(
        ("PUT", "BINPUT", "LONG_BINPUT"), lambda machine, key: machine.memo.update({key: machine.stack[-1]})
    ),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, key: machine.stack.append(machine.memo[key])),
}

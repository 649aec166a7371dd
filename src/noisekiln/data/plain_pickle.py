"""Reading of pickled dicts of numbers, texts and numpy arrays, without running any code that a pickle may name."""

import io
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np


class PlainUnpickler(pickle._Unpickler):  # in Python: memory stays bounded
    """Builds dicts, lists, tuples, numbers, texts, bytes and arrays; every other name in a pickle is an error."""

    stack: list[Any]
    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name: never the named object itself. Raises UnpicklingError for any other name."""
        root = module.replace("numpy._core", "numpy.core")
        if (root, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it names {module}.{name}, and might run code")
        return _STAND_INS[root, name]

    def load_build(self) -> None:
        """Set the state of a stand-in, and of nothing else."""
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, _Array | _DType):
            raise pickle.UnpicklingError("it changes an object that is no array")
        target.__setstate__(state)

    dispatch[pickle.BUILD[0]] = load_build


def load_plain_pickle(content: bytes) -> Any:
    """The content of a pickle of plain data, arrays as numpy arrays. Raises ValueError, and runs no code."""
    try:
        return _plain(PlainUnpickler(io.BytesIO(content), encoding="bytes").load())
    except Exception as error:  # a broken pickle raises errors of any class
        raise ValueError(str(error) or type(error).__name__) from error


class _DType:
    def __init__(self, spec: Any = b"u1", *_: Any) -> None:
        self.spec = spec.decode("ascii") if isinstance(spec, bytes) else str(spec)

    def __setstate__(self, state: Any) -> None:
        """The byte order of numbers of several bytes."""
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else str(state[1])
        self.spec = self.spec if order not in ("<", ">") else order + self.spec.lstrip("<>|=")


class _Array:
    values: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        kind = np.dtype(dtype.spec)
        if kind.hasobject:
            raise pickle.UnpicklingError("it holds Python objects")
        content = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)
        self.values = np.frombuffer(content, kind).reshape(shape, order="F" if fortran else "C")


def _encode(text: str, encoding: Any = "latin1", *_: Any) -> bytes:
    return text.encode("latin1")  # as protocol 2 of Python 3 stores bytes


def _empty_array(*_: Any) -> _Array:
    return _Array()


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): "the class of arrays",
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
}


def _plain(value: Any) -> Any:
    """With arrays in place of stand-ins, in a dict or alone."""
    if isinstance(value, dict):
        return {key: each.values if isinstance(each, _Array) else each for key, each in value.items()}
    return value.values if isinstance(value, _Array) else value

"""Pickles that hold plain numbers, and nothing that could run.

A pickle is a program. This reader knows only the words that rebuild numpy arrays and refuses all others before
anything is called. The words themselves are its own: numpy trusts the state that a pickle hands to its types, and a
forged one makes it read memory that is not there. So no word reaches numpy; what a dtype and an array claim is
checked here, and the array is then made from its bytes.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import ImportDataError
from glassmd.storage import is_special

__all__ = ["load_numpy_pickle"]

_PLAIN = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_DIMENSIONS = 32  # as many as every numpy allows


def _refuse(what: str) -> NoReturn:
    raise ImportDataError(
        f"found {what} in the pickle", "numpy arrays of plain numbers, numbers, text, lists and dictionaries only",
        "do not open this file with anything else unless you trust its author",
    )  # fmt: skip


class _Word:
    """A name that a pickle may call; calling is all that it can do with it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        _refuse("a change of one of its words")


class _Type:
    """Stands for a dtype: plain numbers, and their byte order."""

    __slots__ = ("_kind", "_order")
    __hash__ = None  # type: ignore[assignment]  # no key of a dictionary

    def __init__(self, kind: object, align: object = False, copy: object = True) -> None:
        if not isinstance(kind, str) or not (match := _PLAIN.fullmatch(kind)):
            _refuse(f"a dtype {kind!r:.60}")
        self._kind, self._order = match[1], kind[0] if kind[0] in "<>" else "="

    def __setstate__(self, state: object) -> None:
        # version, byte order, subarray, names, fields, size, alignment, flags and, in version 4, metadata
        plain = (None, None, None, -1, -1, 0)
        if not isinstance(state, tuple) or (*state[:1], len(state)) not in ((3, 8), (4, 9)):
            _refuse("a dtype of an unknown form")
        if not (isinstance(state[1], str) and state[1] in ("<", ">", "|", "=")):
            _refuse("a dtype of an unknown byte order")
        if any(
            type(found) is not type(usual) or found != usual for found, usual in zip(state[2:8], plain, strict=True)
        ):
            _refuse("a dtype that is not one of plain numbers")
        if len(state) == 9 and state[8]:
            _refuse("a dtype with metadata")
        if state[1] in "<>":
            self._order = state[1]

    @property
    def numpy(self) -> np.dtype[Any]:
        """What it stands for."""
        return np.dtype(self._order + self._kind)


class _Array:
    """Stands for an array until its state is there."""

    __slots__ = ("_load", "value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, load: Callable[..., NDArray[Any]]) -> None:
        self._load = load
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or state[0] != 1:
            _refuse("an array of an unknown form")
        _, shape, dtype, fortran, content = state
        self.value = self._load(content, dtype, shape, "F" if fortran else "C")


class _NumpyUnpickler(pickle.Unpickler):
    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self._left = len(content)  # bytes of arrays; a file cannot hold more than its own size
        array = _Word(lambda *arguments: _refuse("a call of numpy.ndarray"))
        self._words: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): array,
            ("numpy", "dtype"): _Word(_Type),
            ("_codecs", "encode"): _Word(self._encoded),  # how old protocols wrote bytes
            ("__builtin__", "bytes"): _Word(lambda: b""),  # and none of them
        }
        for core in ("core", "_core"):
            self._words |= {
                (f"numpy.{core}.multiarray", "_reconstruct"): _Word(lambda *_: _Array(self._array)),
                (f"numpy.{core}.multiarray", "scalar"): _Word(self._scalar),
                (f"numpy.{core}.numeric", "_frombuffer"): _Word(self._array),  # protocol 5
            }

    def find_class(self, module: str, name: str) -> Any:
        """Our own word for what a pickle asks for by name, if it is one of the few that build arrays."""
        if (module, name) not in self._words:
            _refuse(f"{module}.{name}")
        return self._words[module, name]

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            _refuse("arrays that are larger than the file")

    def _encoded(self, text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            _refuse("text in an unknown encoding")
        return text.encode("latin1")

    def _array(self, content: object, dtype: object, shape: object, order: object) -> NDArray[Any]:
        if isinstance(content, str):  # bytes of Python 2
            content = content.encode("latin1")
        if not isinstance(dtype, _Type) or not isinstance(content, bytes | bytearray) or order not in ("C", "F"):
            _refuse("an array of anything but plain numbers")
        plain = dtype.numpy
        if (
            not isinstance(shape, tuple)
            or len(shape) > _DIMENSIONS
            or any(type(size) is not int or size < 0 for size in shape)
            or math.prod(shape) * plain.itemsize != len(content)
        ):
            _refuse(f"an array of shape {shape!r:.60} and type {plain} in {len(content)} bytes")
        self._spend(len(content))
        if plain.kind == "b" and content.strip(b"\x00\x01"):
            _refuse("truth values that are neither true nor false")
        flat = np.frombuffer(content, plain) if content else np.empty(0, plain)
        return flat.copy().reshape(shape, order=order)

    def _scalar(self, dtype: object, content: object) -> Any:
        return self._array(content, dtype, (), "C")[()]


def _check_claims(content: bytes) -> None:
    """Refuse, before anything is built, what claims more memory than its file could need."""
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            _refuse(f"a memory of {argument} objects")


def _arrays_in(found: Any, known: dict[int, tuple[Any, Any]]) -> Any:
    """The same with arrays where stand-ins were; `known` keeps what was replaced, so that no id comes twice."""
    if id(found) in known:
        return known[id(found)][1]
    if isinstance(found, _Array):
        if found.value is None:
            _refuse("an array without content")
        return found.value
    if isinstance(found, list):
        known[id(found)] = found, found
        for index, value in enumerate(found):
            found[index] = _arrays_in(value, known)
    elif isinstance(found, dict):
        known[id(found)] = found, found
        for key, value in found.items():
            _require_plain(key)
            found[key] = _arrays_in(value, known)
    elif isinstance(found, tuple):
        known[id(found)] = found, tuple(_arrays_in(value, known) for value in found)
        return known[id(found)][1]
    else:
        _require_plain(found)
    return found


def _require_plain(found: Any) -> None:
    parts: Sequence[Any] = found if isinstance(found, tuple) else (found,)
    plain = bool | int | float | str | bytes | bytearray | np.bool_ | np.number | np.ndarray | None
    if not all(isinstance(part, plain) for part in parts):
        _refuse(f"a {type(found).__name__.strip('_')}")


def load_numpy_pickle(path: Path) -> Any:
    """Read a pickle that holds arrays of plain numbers and Python's plain types.

    Raises:
        ImportDataError: The file is missing, damaged, or holds anything else; nothing of it is run.
    """
    if is_special(path):
        raise ImportDataError(f"{path} is no regular file", "a pickle file", "write it to a file first")
    try:
        content = path.read_bytes()
        _check_claims(content)
        return _arrays_in(_NumpyUnpickler(content).load(), {})
    except ImportDataError as error:
        raise ImportDataError(f"{path}: {error.found}", error.expected, error.todo) from None
    except OSError as error:
        raise ImportDataError(f"could not read {path}: {error.strerror}", "a pickle file", "check the path") from error
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ImportDataError(f"{path} is not a readable pickle ({error})", "a pickle of numpy arrays") from error

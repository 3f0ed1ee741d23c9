"""A second device without hardware: tensors on "meta" that hold numbers all the same.

Every tensor stays in the CPU's memory. Those that were moved or made on the device, and whatever is computed from them,
are known by their storage and say that they are on "meta", which no code of the program treats specially. What a GPU
refuses is refused: operations on tensors of both devices, and NumPy's view of the device's memory. Stricter than CUDA,
an index on the other device is refused, too. What this cannot show: kernels that CUDA lacks, rounding, speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("meta")


class _Storages:
    """Memory that belongs to the device; kept, so that no address is used again."""

    def __init__(self) -> None:
        self._known: dict[int, Any] = {}
        self.working = False  # one of torch's functions on tensors that are there: what it makes is there, too

    def hold(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._known

    def put(self, result: Any, *, there: bool = True) -> None:
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._known.pop(storage._cdata, None)
                if there:
                    self._known[storage._cdata] = storage


class _Arithmetic(TorchDispatchMode):
    """What one operation, also of a derivative, may see, and where its result is."""

    def __init__(self, storages: _Storages) -> None:
        super().__init__()
        self._storages = storages

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [self._storages.hold(tensor) for tensor in tensors]
        result = func(*args, **(kwargs or {}))
        if "copy_" in func.name():
            return result  # from anywhere to anywhere
        if not tensors and self._storages.working:
            self._storages.put(result)
        if any(there):
            strangers = [t for t, of in zip(tensors, there, strict=True) if not of and t.dim() > 0 and t.numel()]
            if strangers:
                raise RuntimeError(f"{func.name()} of tensors on both devices, {[tuple(t.shape) for t in strangers]}")
            self._storages.put(result)
        return result


class _Names(TorchFunctionMode):
    """The device's name, wherever it is given or asked for."""

    def __init__(self, storages: _Storages) -> None:
        super().__init__()
        self._storages = storages

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func == Tensor.device.__get__:
            return ELSEWHERE if self._storages.hold(args[0]) else func(*args)
        if func is Tensor.numpy and self._storages.hold(args[0]):
            raise TypeError("NumPy cannot see the memory of another device")
        if getattr(func, "__name__", "") == "_parse_to":  # of Module.to, which reads its arguments with it
            return func(*args, **kwargs)
        named = [leaf for leaf in tree_leaves((args[1:], kwargs)) if isinstance(leaf, torch.device)]
        if func in (Tensor.to, Tensor.cpu) and (named or func is Tensor.cpu or "cpu" in args):
            there = ELSEWHERE in named
            moves = self._storages.hold(args[0]) != there
            rest = tree_map(_here, (args[1:], kwargs))
            result = func(args[0], *rest[0], **rest[1])
            if moves:
                result = result.clone() if result.data_ptr() == args[0].data_ptr() else result
                self._storages.put(result, there=there)
            return result
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        of_here = kwargs.get("device") in ("cpu", torch.device("cpu"))
        before, self._storages.working = self._storages.working, any(map(self._storages.hold, tensors))
        args, kwargs = tree_map(_here, (args, kwargs))
        try:
            result = self._backward(args[0]) if func == Tensor.backward else func(*args, **kwargs)
        finally:
            self._storages.working = before
        if ELSEWHERE in named or of_here:
            self._storages.put(result, there=not of_here)
        return result

    def _backward(self, loss: Tensor) -> None:
        """As usual, but derivatives that are written in Python may ask for devices."""
        run = ((loss,), (torch.ones_like(loss),), False, False, ())
        with self:
            _engine_run_backward(*run, allow_unreachable=True, accumulate_grad=True)


def _here(leaf: Any) -> Any:
    return torch.device("cpu") if isinstance(leaf, torch.device) and leaf == ELSEWHERE else leaf


@contextmanager
def elsewhere() -> Iterator[Callable[[Tensor], bool]]:
    """While it lasts the device exists; yields what says whether a tensor is there."""
    storages = _Storages()
    with _Arithmetic(storages), _Names(storages):
        yield storages.hold

"""The processes of one data-parallel training, as `torchrun` starts them, and what they tell each other.

Control is replicated and work is shared: the first process decides, all know what it decided, and each does its part.
An error or a stop of one is raised by all, at the same place. One process alone connects to nothing and sends nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

from glassmd import errors
from glassmd.errors import GlassmdError, InputError, Interrupted, ProcessLostError
from glassmd.interrupt import StoppedAtOnce

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Processes", "origin_of", "processes_asked", "started"]

T = TypeVar("T")

_WAIT = timedelta(minutes=30)  # for what others do between two words: longer work is interrupted by beats
_START = timedelta(minutes=10)  # until all processes are there
_BEAT = 1.0  # seconds between two signs of life of the first process while it works alone
_HEAD, _ROOM = 5, 59  # bytes: whether a process fails, how much the first says, and what it says if it is short
_ORIGIN = "_glassmd_origin"


def processes_asked() -> int:
    """How many processes the environment speaks of."""
    return _number("WORLD_SIZE", 1)


def origin_of(error: BaseException) -> int | None:
    """The process that an error comes from, where all know of it; None for one of this process alone."""
    found: int | None = getattr(error, _ORIGIN, None)
    return found


class Processes:
    """What a process knows of the others; one that is alone by default.

    Every method with a result is called by all processes at the same place, and blocks until the others have called it.

    Args:
        rank: Number of this one.
        size: How many there are.
        local_rank: Number among those of this machine.
        local_size: How many of them are on this machine.

    Example:
        >>> alone = Processes()
        >>> alone.first, alone.tell("something"), alone.gather(3)
        (True, 'something', [3])
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0, local_size: int = 1) -> None:
        self.rank, self.size, self.local_rank, self.local_size = rank, size, local_rank, local_size
        self.host = os.uname().nodename
        self._lost = False

    @classmethod
    def of_environment(cls) -> Processes:
        """As the variables of `torchrun` say: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE.

        Raises:
            InputError: Some are missing, or contradict each other.
        """
        size = processes_asked()
        if size == 1:
            return cls()
        missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        rank = _number("RANK", 0)
        if missing or not 0 <= rank < size:
            found = f"no {missing[0]}" if missing else f"RANK={rank}"
            raise InputError(
                f"found WORLD_SIZE={size} and {found} in the environment", "what torchrun sets",
                "start with torchrun, or unset WORLD_SIZE",
            )  # fmt: skip
        return cls(rank, size, _number("LOCAL_RANK", 0), _number("LOCAL_WORLD_SIZE", 1))

    @property
    def first(self) -> bool:
        """Whether this process decides, writes and speaks."""
        return self.rank == 0

    # ---- words ----------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Wait until all are here; raises what one of them met since the last word."""
        if self.size > 1:
            self._round()

    def tell(self, value: Any) -> Any:
        """What the first process says (JSON types only), whatever the others give."""
        if self.size == 1:
            return value
        return json.loads(self._round(json.dumps(value).encode() if self.first else b""))

    def gather(self, value: Any) -> list[Any]:
        """What every process says (JSON types only), in their order."""
        if self.size == 1:
            return [value]
        self._round()
        return self._gather(value)

    def each(self, tensors: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
        """The tensors of every process, in their order, on the CPU; one after the other, so that few are in memory."""
        for rank in range(self.size):
            yield self._tensors_of(rank, tensors)

    def of_first(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Those of the first process, whatever the others give."""
        return self._tensors_of(0, tensors)

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, the same on each to the last bit; the tensor may be changed."""
        if self.size > 1:
            import torch.distributed as dist

            self._round()
            self._do(lambda: dist.all_reduce(tensor))
        return tensor

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over all processes, without a gradient; of half precision in single."""
        if self.size == 1:
            return tensor
        own = tensor.detach().clone()
        return self.add_up(own.float() if own.element_size() < 4 else own) / self.size

    def by_first(self, work: Callable[[Callable[[], None]], T], check: Callable[[], None]) -> T | None:
        """Have the first process do something that may take long, while the others wait.

        Args:
            work: Takes a function that it calls about once a second; what that raises ends it.
            check: Called meanwhile, by all; what it raises ends the work.

        Returns:
            What the work does; None where others do it.
        """
        if self.size == 1:
            return work(check)
        if not self.first:
            while not self.tell(None):
                check()
            return None
        said = time.monotonic()

        def beat() -> None:
            nonlocal said
            check()
            if time.monotonic() - said > _BEAT:
                self.tell(False)
                said = time.monotonic()

        done = work(beat)
        self.tell(True)
        return done

    @contextmanager
    def together(self) -> Iterator[None]:
        """What one process raises inside the block all raise, and none leaves it before all do."""
        if self.size == 1:
            yield
            return
        try:
            yield
            self.sync()
        except BaseException as error:
            if not self._lost and origin_of(error) is None:
                self._round(failing=error)
            raise

    # ---- how they travel ------------------------------------------------------------------------------------

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Connect to the others while the block runs, and leave together with them.

        Raises:
            InputError: They cannot be reached, or run another version of glassmd.
        """
        if self.size == 1:
            yield
            return
        import torch
        import torch.distributed as dist

        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        try:
            dist.init_process_group(backend, rank=self.rank, world_size=self.size, timeout=_START)
            dist.barrier(group=(group := dist.new_group(backend="gloo", timeout=_WAIT)))
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"{self.host} could not meet the other {self.size - 1} processes at {place} ({error})",
                "an address that all machines of a training reach",
                "check --rdzv-endpoint, or --master-addr and --master-port",
            ) from error
        self._group = group
        try:
            yield
        finally:
            with suppress(RuntimeError):
                if not self._lost:
                    dist.barrier(group=group)  # who ends early has the launcher end the others
                dist.destroy_process_group()

    def _round(self, content: bytes = b"", failing: BaseException | None = None) -> bytes:
        """What everything begins with: whether a process fails, and what the first has to say."""
        import torch
        import torch.distributed as dist

        head = torch.zeros(_HEAD + _ROOM, dtype=torch.uint8)
        head[0] = failing is not None
        head[1:_HEAD] = torch.tensor(list(len(content).to_bytes(4, "little")), dtype=torch.uint8)
        if 0 < len(content) <= _ROOM:
            head[_HEAD : _HEAD + len(content)] = _tensor(content)
        self._do(lambda: dist.all_reduce(head, dist.ReduceOp.MAX, group=self._group))
        if head[0]:
            self._fail(failing)
        length = int.from_bytes(bytes(head[1:_HEAD].tolist()), "little")
        return bytes(head[_HEAD : _HEAD + length].tolist()) if length <= _ROOM else self._sent(0, content, length)

    def _sent(self, rank: int, content: bytes, length: int) -> bytes:
        """So many bytes of one process."""
        import torch
        import torch.distributed as dist

        sent = _tensor(content) if self.rank == rank else torch.empty(length, dtype=torch.uint8)
        self._do(lambda: dist.broadcast(sent, rank, group=self._group))
        return content if self.rank == rank else sent.numpy().tobytes()

    def _tensors_of(self, rank: int, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if self.size == 1:
            return tensors
        from safetensors.torch import load, save

        own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        content = save(own) if self.rank == rank else b""
        content = self._sent(rank, content, max(self.gather(len(content))))
        return own if self.rank == rank else load(content)

    def _gather(self, value: Any) -> list[Any]:
        import torch
        import torch.distributed as dist

        content = json.dumps(value).encode()
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(content)
        self._do(lambda: dist.all_reduce(lengths, group=self._group))
        own = torch.zeros(int(lengths.max()), dtype=torch.uint8)
        own[: len(content)] = _tensor(content)
        found = [torch.empty_like(own) for _ in range(self.size)]
        self._do(lambda: dist.all_gather(found, own, group=self._group))
        return [json.loads(of.numpy().tobytes()[:n]) for of, n in zip(found, lengths.tolist(), strict=True)]

    def _do(self, collective: Callable[[], Any]) -> None:
        try:
            collective()
        except RuntimeError as error:
            self._lost = True
            raise ProcessLostError(
                "another process of this training has ended", "", "run again to continue from the last checkpoint"
            ) from error

    def _fail(self, own: BaseException | None) -> None:
        """Raise what the first of those raises that have something to."""
        told = self._gather(None if own is None else _described(own, self.host))
        rank = next(rank for rank, of in enumerate(told) if of is not None)
        alike = own is not None and type(own).__name__ == told[rank]["kind"]
        error = own if alike and own is not None else _rebuilt(rank, **told[rank])
        setattr(error, _ORIGIN, rank)
        raise error


@contextmanager
def started() -> Iterator[Processes]:
    """The processes that the environment speaks of, connected while the block runs; an error of one is one of all.

    Raises:
        InputError: See :meth:`Processes.of_environment` and :meth:`Processes.connected`.
    """
    found = Processes.of_environment()
    with found.connected(), found.together():
        versions = found.gather([version("glassmd"), found.host])
        for number, host in versions:
            if number != versions[0][0]:
                raise InputError(
                    f"found glassmd {number} on {host} and {versions[0][0]} on {versions[0][1]}", "one version",
                    f"install glassmd {versions[0][0]} on {host}",
                )  # fmt: skip
        yield found


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise InputError(f"found {name}={text} in the environment", "a number", f"unset {name}") from None


def _tensor(content: bytes) -> Tensor:
    import torch

    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _described(error: BaseException, host: str) -> dict[str, str]:
    told = {"kind": type(error).__name__, "host": host, "found": repr(error), "expected": "", "todo": ""}
    if isinstance(error, GlassmdError):
        told.update(found=error.found, expected=error.expected, todo=error.todo)
    elif isinstance(error, StoppedAtOnce):
        told.update(found=str(error))
    return told


def _rebuilt(rank: int, kind: str, host: str, found: str, expected: str, todo: str) -> BaseException:
    """What another process has raised."""
    if kind == StoppedAtOnce.__name__:
        return StoppedAtOnce(found)
    of = getattr(errors, kind, None)
    if not (isinstance(of, type) and issubclass(of, GlassmdError)):
        return RuntimeError(f"process {rank} on {host}: {found}")
    error: GlassmdError = of(found if of is Interrupted else f"process {rank} on {host}: {found}", expected, todo)
    return error

"""Computing the inputs of a list of parents, beside others who do the same."""

from __future__ import annotations

from collections.abc import Sequence

from glassmd.errors import RunError
from glassmd.inputs.cache import InputCache
from glassmd.inputs.provider import StructureProvider
from glassmd.ledger.run import ParentKey, RunDirectory

__all__ = ["Work", "work_on"]

Work = Sequence[tuple[RunDirectory, ParentKey]]
"""Parents of runs."""


def work_on(provider: StructureProvider, work: Work) -> None:
    """Compute the inputs of parents: first those that nobody else computes, then wait for the others.

    Args:
        provider: Which inputs, and how.
        work: The parents.

    Raises:
        EngineError: There is no engine, or it failed.
        RunError: A parent is missing or damaged.
    """
    put_aside = []
    for run, key in work:
        if _claimed_by_others(provider, run, key):
            put_aside.append((run, key))
        else:
            _compute(provider, run, key)
    for run, key in put_aside:
        _compute(provider, run, key)


def _claimed_by_others(provider: StructureProvider, run: RunDirectory, key: ParentKey) -> bool:
    cache = InputCache(run)
    for name in provider.simulated:
        with cache.claim(provider.recipe(run, name), key) as free:
            if not free:
                return True
    return False


def _compute(provider: StructureProvider, run: RunDirectory, key: ParentKey) -> None:
    if provider.check is not None:
        provider.check()
    entry = run.entry("parents", key.name)
    if entry is None:
        raise RunError(f"found no parent {key.name} in {run.path}", "a committed parent", "simulate or import it")
    provider.of_parent(run, key, entry.read([0])[0].configuration)

"""The isoconfigurational ensemble: replicas of a parent, alike in positions and independent in their momenta.

From every parent R replicas start with momenta of their own (Widmer-Cooper, Harrowell & Fynewever, PRL 93, 135701
(2004)). They are committed in blocks; the blocks of any parents can run in one simulation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from glassmd.engines.base import Engine
from glassmd.engines.thermostat import Thermostat
from glassmd.errors import EquilibrationError
from glassmd.ledger.run import RunDirectory, SegmentKey
from glassmd.settings import RunSettings
from glassmd.simulation.batch import Check, Outcome, SharedTime, settings_of
from glassmd.simulation.block import Block

__all__ = ["run_blocks"]


def run_blocks(keys: Sequence[SegmentKey], run: RunDirectory, engine: Engine, check: Check) -> Iterator[Outcome]:
    """Run blocks of replicas, and commit each as soon as its last replica has reached the last time.

    Args:
        keys: Which, of any parents.
        run: Where to find the parents and to commit.
        engine: Evolves them together.
        check: Called about once a second; what it raises ends it, all committed ones kept.

    Yields:
        One outcome per key, after its commit. Blocks of a lineage that is no equilibrated liquid are refused where
        that was not accepted.

    Raises:
        EngineError: The engine failed, or replicas left their temperature.
        RunError: A parent is missing or damaged.
        StorageError: The disk is full or not writable.
    """
    blocks: list[Block] = []
    for key in keys:
        try:
            blocks.append(Block(key, run))
        except EquilibrationError as error:
            yield Outcome(key, 0, error)
    if not blocks:
        return
    owners = [(block, replica) for block in blocks for replica in block.replicas]
    shared = SharedTime(len(owners))
    for block in _fill(blocks, owners, settings_of(run), engine, check):
        block.commit({**engine.facts, "seconds": shared.take(len(block.replicas))})
        yield Outcome(block.key, block.steps)


def _fill(
    blocks: Sequence[Block],
    owners: Sequence[tuple[Block, int]],
    settings: RunSettings,
    engine: Engine,
    check: Check,
) -> Iterator[Block]:
    """Evolve the replicas of all blocks and hand over each block as soon as it is full."""
    thermostat = None
    if settings.ensemble == "nvt":
        baths = tuple(seed for block in blocks for seed in block.baths)
        thermostat = Thermostat(settings.temperature, settings.thermostat_time, baths)
    systems = [system for block in blocks for system in block.systems()]
    options: dict[str, Any] = {
        "steps": settings.steps(),
        "time_step": settings.time_step,
        "thermostat": thermostat,
        "check": check,
    }
    if settings.keep == "positions":
        for seen in engine.evolve(systems, settings.liquid(), **options):
            block, replica = owners[seen.system]
            if block.observe(replica, seen):
                yield block
        return
    groups = [number for number, block in enumerate(blocks) for _ in block.replicas]
    # Replica 0 goes on as the next parent.
    ends = {system for system, (_, replica) in enumerate(owners) if replica == 0}
    for part in engine.displacements(systems, settings.liquid(), groups=groups, keep_ends_of=ends, **options):
        if blocks[part.group].add([owners[system][1] for system in part.systems], part):
            yield blocks[part.group]

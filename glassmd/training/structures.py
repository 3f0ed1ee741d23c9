"""The structures of a training's samples, with the inputs that the learner sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from glassmd.inputs import CageProtocol, InputProgress, StructureProvider, cage_step, prepare, shared_protocol
from glassmd.models import model_class
from glassmd.settings import Settings
from glassmd.stream.dataset import Run
from glassmd.training.source import SampleSource

__all__ = ["Structures"]

CAGE_SEED = 0
"""Of all cages: trainings with several seeds see the same positions, which are computed once."""


class Structures:
    """Reads what is kept beside the runs, computes the rest, and says what that took.

    Args:
        source: Of the samples.
        settings: Inputs, cages and engine.
        check: Called about once a second while something is computed; what it raises ends it.

    Attributes:
        provider: Whom to ask for a structure.
    """

    def __init__(self, source: SampleSource, settings: Settings, check: Callable[[], None] | None = None) -> None:
        train = settings.train
        self._source = source
        inputs = tuple(train.input or model_class(train.model).default_inputs)
        self.provider = StructureProvider(
            inputs,
            engine=settings.run.engine,
            device=settings.run.device,
            protocol=_protocol(source.runs, settings) if "cage" in inputs else None,
            seed=CAGE_SEED,
            check=check,
        )

    def prepare(self, show: Callable[[InputProgress], None] | None = None, workers: int | None = None) -> None:
        """Compute what is missing for all samples that are there now, in as many processes as there are cores."""
        if self.provider.simulated:
            samples = [sample for run in self._source.runs for sample in run.samples()]
            prepare(self.provider, self._source.runs, samples, show=show, workers=workers)

    def cage_protocols(self) -> dict[str, dict[str, Any]]:
        """By temperature: how cages were measured (JSON types only); empty where the learner sees none."""
        if "cage" not in self.provider.inputs:
            return {}
        return {
            f"{float(run.identity['temperature']):g}": self.provider.protocol_for(run).to_dict()
            for run in self._source.runs
        }


def _protocol(runs: Sequence[Run], settings: Settings) -> CageProtocol | None:
    """What the settings ask for, or None where they leave it to the runs."""
    train = settings.train
    usual = CageProtocol()
    if train.cage_time is None and train.cage_replicas == usual.replicas:
        return None
    if train.cage_time is None:
        return replace(shared_protocol(runs), replicas=train.cage_replicas)
    step = cage_step(settings.run.time_step)
    spacing = max(1, round(train.cage_time / (usual.time / usual.spacing) / step)) * step
    after = train.cage_time * usual.after / usual.time
    return CageProtocol(train.cage_replicas, train.cage_time, after, spacing, step)

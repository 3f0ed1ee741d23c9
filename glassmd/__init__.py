"""glassmd: simulate supercooled liquids and train graph networks on them while they run.

The public names are listed in `__all__`; each is imported when it is first used, so that a simulating process
never loads torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassmd.comparison.session import compare as compare
    from glassmd.configuration import Configuration as Configuration
    from glassmd.errors import GlassmdError as GlassmdError
    from glassmd.evaluation import evaluate as evaluate
    from glassmd.graphs import to_graph as to_graph
    from glassmd.mixtures import Mixture as Mixture
    from glassmd.mixtures import get_mixture as get_mixture
    from glassmd.models.known import known_models as known_models
    from glassmd.models.store import load_model as load_model
    from glassmd.observables.opening import analyze as analyze
    from glassmd.prediction import predict as predict
    from glassmd.settings import RunSettings as RunSettings
    from glassmd.settings import Settings as Settings
    from glassmd.settings import TrainSettings as TrainSettings
    from glassmd.settings import load_settings as load_settings
    from glassmd.stream.dataset import Run as Run
    from glassmd.stream.dataset import open_run as open_run
    from glassmd.stream.samples import Sample as Sample
    from glassmd.structure import Structure as Structure
    from glassmd.training.session import train as train
    from glassmd.training.session import train_stream as train_stream
    from glassmd.trajectory.objects import from_ase as from_ase
    from glassmd.trajectory.objects import from_snapshot as from_snapshot
    from glassmd.trajectory.objects import to_ase as to_ase
    from glassmd.trajectory.trajectory import open_trajectory as open_trajectory
    from glassmd.trajectory.trajectory import read_configuration as read_configuration

_HOME = {
    "Configuration": "configuration",
    "GlassmdError": "errors",
    "Mixture": "mixtures",
    "Run": "stream.dataset",
    "RunSettings": "settings",
    "Sample": "stream.samples",
    "Settings": "settings",
    "Structure": "structure",
    "TrainSettings": "settings",
    "analyze": "observables.opening",
    "compare": "comparison.session",
    "evaluate": "evaluation",
    "from_ase": "trajectory.objects",
    "from_snapshot": "trajectory.objects",
    "get_mixture": "mixtures",
    "known_models": "models.known",
    "load_model": "models.store",
    "load_settings": "settings",
    "open_run": "stream.dataset",
    "open_trajectory": "trajectory.trajectory",
    "predict": "prediction",
    "read_configuration": "trajectory.trajectory",
    "simulate": "simulation.pool",
    "to_ase": "trajectory.objects",
    "to_graph": "graphs",
    "train": "training.session",
    "train_stream": "training.session",
}

__all__ = sorted(_HOME)
__version__ = version("glassmd")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'glassmd' has no attribute {name!r}")
    return getattr(import_module(f"glassmd.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

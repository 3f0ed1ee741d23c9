"""The trainings of a comparison on a Ray cluster, many at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack

from glassmd.comparison.trainings import Laboratory, Training
from glassmd.simulation.cluster.host import hosted
from glassmd.simulation.preparation import available_cores
from glassmd.training.checkpoints import latest_checkpoint
from glassmd.training.cluster.start import ClusterTraining

__all__ = ["carry_out_on_cluster"]

_AT_ONCE = 16  # trainings; those that the cluster has no room for wait there
_LOOK = 0.2  # seconds between two looks at them


def carry_out_on_cluster(laboratory: Laboratory, trainings: Sequence[Training]) -> None:
    """Carry out trainings where the laboratory's cluster has room, and keep what they say of what was left out.

    Raises:
        GlassmdError: What one of them raised; the others are stopped with what they have saved.
        Interrupted: A stop was requested; checkpoints are saved.
    """
    waiting, going = deque(enumerate(trainings, 1)), dict[int, tuple[Training, ClusterTraining, ExitStack, bool]]()
    with ExitStack() as stack:
        cluster = stack.enter_context(hosted(str(laboratory.cluster), available_cores()))
        try:
            while waiting or going:
                laboratory.stop.check()
                while waiting and len(going) < _AT_ONCE:
                    number, training = waiting.popleft()
                    laboratory.announce(f"training {number} of {len(trainings)}: {training}")
                    folder, fold = laboratory.folder(training), training.fold
                    begun = ClusterTraining(
                        cluster,
                        [run.path for run in laboratory.runs],
                        folder,
                        laboratory.settings(training),
                        follow=False,
                        held_out=None if fold.told else fold.held_out,
                    )
                    resumed = latest_checkpoint(folder) is not None
                    own = stack.enter_context(ExitStack())
                    going[number] = training, own.enter_context(begun), own, resumed
                for number, (training, at_work, own, resumed) in list(going.items()):
                    if not at_work.poll():
                        result = at_work.result()
                        own.close()
                        del going[number]
                        laboratory.keep(training, result["steps"], None if resumed else result["training_seconds"])
                time.sleep(_LOOK)
        finally:
            for _, at_work, _, _ in going.values():  # all at once, before each is waited for
                at_work.ask_to_stop()

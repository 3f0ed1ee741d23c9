"""What each of several processes does in `test_processes.py`: trainings one after the other, connected once."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Data

from glassmd.errors import Interrupted
from glassmd.interrupt import StopRequest
from glassmd.processes import Processes, started
from glassmd.settings import RunSettings, Settings, TrainSettings
from glassmd.stream.samples import Sample
from glassmd.training import loop
from glassmd.training.encoding import Encoder
from glassmd.training.session import train


class Doubles(Encoder):
    """Encodes in double precision what optimiser steps are taken on."""

    def encode(self, sample: Sample) -> Data:
        """See the base class."""
        data = super().encode(sample)
        for name, of in data.to_dict().items() if self._model.stepped else ():
            data[name] = of.double() if isinstance(of, torch.Tensor) and of.is_floating_point() else of
        return data


class StopsAfter(StopRequest):
    """Stops a training after it has been asked so often."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self._left = left

    @property
    def reason(self) -> str | None:
        """Why to stop, or None."""
        self._left -= 1
        return "a test" if self._left < 0 else None


def do(job: dict[str, Any], processes: Processes) -> dict[str, Any] | str:
    """One training, in double precision; what it returns, or why it stopped.

    Args:
        job: `run`, `out`, settings `train`, and after how many looks the last process wants to `stop`.
        processes: That train together.
    """
    torch.set_default_dtype(torch.float64)
    loop.Encoder = Doubles  # type: ignore[attr-defined, misc]
    settings = Settings(run=RunSettings(seed=7), train=TrainSettings(**job["train"]))
    stop = StopsAfter(job["stop"]) if "stop" in job and processes.rank == processes.size - 1 else StopRequest()
    try:
        return train([job["run"]], Path(job["out"]), settings, stop=stop, show=False, processes=processes)
    except Interrupted as error:
        return str(error)
    finally:
        torch.set_default_dtype(torch.float32)
        loop.Encoder = Encoder  # type: ignore[attr-defined]


def main() -> None:
    """`python two_processes.py JOBS RESULTS`: each process writes what its trainings returned."""
    torch.set_num_threads(1)
    with started() as processes:
        results = [do(job, processes) for job in json.loads(Path(sys.argv[1]).read_text())]
    Path(sys.argv[2]).with_suffix(f".{os.environ['RANK']}").write_text(json.dumps(results))


if __name__ == "__main__":
    main()

"""Encoding beside the trainer: a process that follows the same runs and puts what it encodes where the trainer looks.

What a learner eats of a sample depends on its parent and its structures, so that nobody has to say what is wanted: the
process reads the ledger as the trainer does, and the files that appear in the model's directory are all that they
share. Where it dies or finds no room, the trainer encodes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from glassmd.errors import GlassmdError, Interrupted
from glassmd.interrupt import StoppedAtOnce, StopRequest
from glassmd.learners import make_model
from glassmd.learners.base import PropensityModel
from glassmd.simulation.apart import start_process, tell
from glassmd.simulation.structures import Request
from glassmd.stream.dataset import open_run
from glassmd.stream.structures import Structures
from glassmd.training.encoding import GIB, Encoder, Encodings, Name
from glassmd.training.source import SampleSource

__all__ = ["EncodingProcess", "main"]

_LOOK = 0.1  # seconds between two looks for new segments
_PATIENCE = 20.0  # seconds after which the trainer encodes what it waits for
_NICE = 5  # the trainer goes before it, and it before those who simulate


class EncodingProcess:
    """Such a process, as the trainer has it.

    Args:
        model: The learner.
        source: Of the samples; those for testing are not encoded.
        structures: Of the samples.
        encodings: Where the trainer looks; it has to have a directory.
        disk: GiB that may lie there.
    """

    def __init__(
        self,
        model: PropensityModel,
        source: SampleSource,
        structures: Structures,
        encodings: Encodings,
        disk: float,
    ) -> None:
        self._encodings, self._since = encodings, dict[Name, float]()
        told = {
            "runs": [str(run.path.resolve()) for run in source.runs],
            "split": source.split_asked,
            "tau_alphas": source.tau_alphas,
            "target": source.runs[0].target,
            "first_time": source.first_time,
            "model": model.name,
            "hyperparameters": model.hyperparameters(),
            "cage": structures.cage.to_dict(),
            "directory": str(encodings.directory),
            "disk": disk,
            "parent": os.getpid(),
        }
        self._process, self._report = start_process([__name__, json.dumps(told)])

    def has(self, name: Name) -> bool:
        """Whether the trainer need not wait for a sample: it is there, or nobody encodes it in time."""
        if self._encodings.there(name) or self._process.poll() is not None:
            self._since.pop(name, None)
            return True
        return time.monotonic() - self._since.setdefault(name, time.monotonic()) > _PATIENCE

    def stop(self) -> None:
        """End it; what it has encoded stays."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._report.close()


def _encode(told: dict[str, Any], stop: StopRequest) -> None:
    """Encode what is there and what comes, until the runs are complete."""
    runs = [open_run(path, told["target"]) for path in told["runs"]]
    for run in runs:
        run.tau_alpha = told["tau_alphas"].get(run.identity["id"])
        if told["first_time"] is not None:
            run.use_times_from(told["first_time"])
    model = make_model(told["model"], **told["hyperparameters"])
    structures = Structures(runs, model.inputs, Request.from_dict(told["cage"]))
    share, held_out = told["split"]
    held_out = None if held_out is None else {(run, lineage) for run, lineage in held_out}
    source = SampleSource(runs, share, held_out, structures.requests)
    directory = Path(told["directory"])
    taken = sum(path.stat().st_size for path in directory.glob("*.safetensors")) / GIB
    encodings = Encodings(directory=directory, disk=told["disk"] - taken)
    encoder = Encoder(model, structures, encodings, source.pair_changes)
    while True:
        complete = source.complete
        for key, blocks in source.waiting():
            stop.check()
            name = encoder.name(key, blocks)
            wanted = source.split(key) != "test" and not encodings.there(name)
            if wanted and not encodings.put(name, encoder.encode(source.recall(key, blocks))):
                return  # no room: the trainer encodes the others when it needs them
            source.settle(key, blocks)
        if complete:
            return
        stop.check()
        time.sleep(_LOOK)


def main(arguments: list[str] | None = None) -> int:
    """`python -m glassmd.training.encoding_process WHAT`, as :class:`EncodingProcess` starts it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("what", help="JSON of what to encode for whom")
    parser.add_argument("--report", type=int, default=None, help="open file to write to why it ended")
    options = parser.parse_args(arguments)
    os.nice(_NICE)
    told = json.loads(options.what)
    try:
        _encode(told, StopRequest(parent_process=told["parent"]).install())
    except (Interrupted, StoppedAtOnce):
        return Interrupted.exit_code
    except GlassmdError as error:  # the trainer will meet it, too
        return tell(options.report, error)
    return 0


if __name__ == "__main__":
    sys.exit(main())

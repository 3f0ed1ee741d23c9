"""Does an exponential moving average of the weights predict better than the weights that the steps end with?

    python benchmarks/weight_average.py RUN FOLDER [--learners glassnet,bapst] [--seeds 0,1,2] [--steps N]

Averages with several lengths are kept beside one training, which they do not change, so that all are compared on the
same steps: the weights of the end, those of the best validation, and every average are scored on the test lineages of
RUN, one of `online_data.py`. `glassnet` weighs its parts anew with each.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from online_data import LEARNER
from record import RESULTS, record

from glassmd.learners.fitting.stepped import Stepped
from glassmd.learners.part import Advance, Tensors
from glassmd.settings import RunSettings, Settings
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.reservoir import Reservoir
from glassmd.stream.samples import score_samples
from glassmd.training.loop import Trainer
from glassmd.training.session import train

LENGTHS = 30, 100, 300
"""Steps over which an average forgets; of `glassnet` of each member's own, which come every fifth time."""


class Averages:
    """Averages of the weights of a model, as steps are taken."""

    def __init__(self) -> None:
        self.of: dict[int, Tensors] = {}

    @torch.no_grad()
    def update(self, model: torch.nn.Module) -> None:
        """After a step. Parameters that it left as they were are left alone."""
        now = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        for length in LENGTHS:
            kept = self.of.setdefault(length, {name: tensor.detach().clone() for name, tensor in now.items()})
            for name, tensor in now.items():
                if tensor.grad is not None:
                    kept[name].lerp_(tensor, 1 / length)


def scores(trainer: Trainer, run: Run) -> list[float]:
    """ρ_A per time on the test lineages, mean over configurations."""
    samples = [sample for sample in run.samples() if sample.role == "test"]
    predictions = [trainer.predict(sample) for sample in samples]
    return [float(value) for value in score_samples(predictions, samples, "A").mean]


def variants(trainer: Trainer, averages: Averages) -> Iterator[tuple[str, Tensors]]:
    """What to predict with, by name."""
    yield "last", {}
    yield "best validation", dict(trainer.fit.kept)
    for length, weights in averages.of.items():
        yield f"average over {length}", weights


def measured(run: Run, out: Path, learner: str, seed: int, steps: int | None) -> dict[str, list[float]]:
    """ρ_A per time of every variant."""
    averages, found, trained = Averages(), dict[str, list[float]](), list[Trainer]()
    advance, finish = Stepped.advance, Trainer._finish

    def stepped(self: Stepped, reservoir: Reservoir) -> Advance:
        done = advance(self, reservoir)
        averages.update(self._learner)
        return done

    def finished(self: Trainer) -> None:
        trained.append(self)
        last = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        for name, weights in variants(self, averages):
            self.model.load_state_dict({**last, **weights})
            for part in self.fit.parts:
                if not isinstance(part, Stepped):
                    part.finish()
            found[name] = scores(self, run)
        self.model.load_state_dict(last)

    Stepped.advance, Trainer._finish = stepped, finished  # type: ignore[method-assign]
    try:
        told: dict[str, Any] = {"model": learner, "max_steps": steps}
        shutil.rmtree(out, ignore_errors=True)
        train([run.path], out, Settings(run=RunSettings(seed=seed), train=LEARNER.model_copy(update=told)))
    finally:
        Stepped.advance, Trainer._finish = advance, finish  # type: ignore[method-assign]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--learners", default="glassnet,bapst")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--out", type=Path, default=RESULTS)
    told = parser.parse_args()
    run, rows = open_run(told.run), {}
    run.poll()
    for learner in told.learners.split(","):
        by_seed = []
        for seed in map(int, told.seeds.split(",")):
            by_seed.append(measured(run, told.folder / f"{learner}-{seed}", learner, seed, told.steps))
            print(learner, seed, by_seed[-1], flush=True)
        differences = {
            name: np.array([found[name] for found in by_seed]) - np.array([found["last"] for found in by_seed])
            for name in by_seed[0]
        }
        rows[learner] = {
            "rho_A": by_seed,
            "minus_last": {name: np.round(of.mean(axis=0), 4).tolist() for name, of in differences.items()},
            "sd_between_seeds": {name: np.round(of.std(axis=0), 4).tolist() for name, of in differences.items()},
        }
    record("weight_average", {"what": __doc__.splitlines()[0], "run": run.path.name, "learners": rows}, told.out)


if __name__ == "__main__":
    main()

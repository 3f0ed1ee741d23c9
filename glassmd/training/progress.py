"""What a training tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass, field

from glassmd.show import bar, remaining
from glassmd.target import PROPENSITY, Target
from glassmd.time_unit import REDUCED, TimeUnit

__all__ = ["TrainingProgress"]

Values = list[float | None]


@dataclass
class TrainingProgress:
    """How far a training is.

    Attributes:
        step: Optimiser steps done; solutions where there are none.
        max_steps: Steps that were asked for, without those `redrawn`; 0 where samples alone decide.
        loss: Of the last step, in normalised units.
        rate: Steps per second, while not waiting.
        samples: Training samples taken so far.
        segments: Segments read.
        pearson: Last validation: ρ by species of the loss and time; None where there is none.
        waiting: What the trainer waits for, or an empty string.
        waited: Seconds that it has waited, by what for.
        ceiling: Largest ρ that the labels of the last validation allow, by species and time; None where unknown.
        validated: Step of the last validation.
        validation_loss: Of the last validation; see :class:`glassmd.training.validation.Validation`.
        best: Mean ρ of the best validation so far.
        best_step: Its step.
        samples_expected: Training samples that there will be; None where nobody knows.
        learner: Its name.
        inputs: What it sees.
        device: Where steps are taken.
        batch: Samples per step, of all processes.
        times: Output times, in `time_unit`.
        data: Paths of the runs.
        seconds: Since this session began.
        seconds_left: Until the last step at the pace of the last minute, or of the last ten that were not redrawn,
            waiting included; None while nobody can tell.
        state: `working`, `done`, or `stopped`, and why.
        time_unit: Of the times.
        target: What is learned.
        redrawn: Steps, of `step`, on samples drawn again while the trainer would have waited for others.
        processes: That train together.
    """

    step: int = 0
    max_steps: int = 0
    loss: float | None = None
    rate: float = 0.0
    samples: int = 0
    segments: int = 0
    pearson: dict[str, Values] = field(default_factory=dict)
    waiting: str = ""
    waited: dict[str, float] = field(default_factory=dict)
    ceiling: dict[str, Values] = field(default_factory=dict)
    validated: int | None = None
    validation_loss: float | None = None
    best: float | None = None
    best_step: int = 0
    samples_expected: int | None = None
    learner: str = ""
    inputs: list[str] = field(default_factory=list)
    device: str = ""
    batch: int = 1
    times: list[float] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    seconds: float = 0.0
    seconds_left: float | None = None
    state: str = "working"
    time_unit: TimeUnit = REDUCED
    target: Target = PROPENSITY
    redrawn: int = 0
    processes: int = 1

    @property
    def complete(self) -> bool:
        """Whether it has come to its end."""
        return self.state == "done"

    @property
    def asked(self) -> int:
        """Steps done of `max_steps`."""
        return max(0, self.step - self.redrawn)  # batches that were drawn ahead count as redrawn already

    @property
    def count(self) -> str:
        """How many steps or samples of how many."""
        if self.max_steps:
            return f"{self.asked}/{self.max_steps} steps"
        expected = "" if self.samples_expected is None else f"/{self.samples_expected}"
        return f"{self.samples}{expected} samples"

    def bar(self, width: int = 20) -> str:
        """How much of the steps is done; of the samples where they alone decide."""
        if self.complete:
            return bar(1, 1, width)
        return (
            bar(self.asked, self.max_steps, width)
            if self.max_steps
            else bar(self.samples, self.samples_expected, width)
        )

    def __str__(self) -> str:
        """A line with a bar."""
        facts = [self.count + (f" and {self.redrawn} on samples drawn again" if self.redrawn else "")]
        if self.loss is not None:
            facts.append(f"loss {self.loss:.3f}")
        for species, values in list(self.pearson.items())[:1]:
            rho = " ".join("–" if value is None else f"{value:.2f}" for value in values)
            facts.append(f"ρ {species} [{rho}]")
        if self.waiting:
            facts.append(f"waiting for {self.waiting}")
        elif not self.complete:
            facts.append(remaining(self.seconds_left))
        return f"training {self.bar()} {', '.join(facts)}"

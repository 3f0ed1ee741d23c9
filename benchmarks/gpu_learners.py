"""A training step of the networks on a GPU, beside the same step on the CPU in the same run, and a real training.

    python benchmarks/gpu_learners.py RUN                  on CUDA where there is a device, else on the CPU alone
    python benchmarks/gpu_learners.py RUN --device cpu     on the CPU alone

RUN is a run directory: the ten published configurations (`glassmd import FILES --format botan --out RUN`) or a
simulated one; inputs that it lacks are computed first. A step is what `glassmd train` takes: encoded samples that a
thread has turned and batched beside the step before, on their way to the device, objective, backward, clipped AdamW.
What is made once per sample, or solved, is not in it. On CUDA, or with --quick, `glassmd.train` itself then trains
every network for some steps on the run, with all that belongs to it: seconds, device and score on held-out lineages are
kept. Every learner has a process of its own, so that peaks of memory are its own, and one that fails stops no other;
all prepare, and compile, at the same time, and when they have done so they are measured one after the other. On CUDA a
step is taken in single precision, with TensorFloat-32 in matrix products and under bfloat16 autocast, and, where
`--variants` says so, with the objective through torch.compile; one that fails, or takes longer to compile than
`--compile-limit`, is told. `--variants "cpu,cpu compiled"` does so on the CPU.
"""

from __future__ import annotations

import fcntl
import json
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command import cuda_or_cpu, folder_of, parser_of, run
from record import cpu_name, record
from turns import rate, ratio, take_turns

from glassmd.errors import RunError
from glassmd.learners.fitting.stepped import Stepped
from glassmd.learners.part import FOLDS
from glassmd.settings import RunSettings, Settings, TrainSettings
from glassmd.simulation.preparation import available_cores
from glassmd.stream.dataset import open_run
from glassmd.stream.samples import SampleKey
from glassmd.stream.structures import Structures
from glassmd.training.choices import resolved, started
from glassmd.training.encoding import Encodings
from glassmd.training.loop import Trainer
from glassmd.training.session import train
from glassmd.training.source import SampleSource

LEARNERS = ("glassnet", "glassmlp", "bapst", "botan", "se3")
HYPERPARAMETERS: dict[str, dict[str, Any]] = {"botan": {"pretrain_steps": 0}}
"""BOTAN learns edges alone at first, which is the cheaper part: its steps on both are measured."""
VARIANTS = ("cpu", "cuda", "cuda tf32", "cuda bfloat16")
"""Where and how steps are taken on CUDA, where nobody says; `cuda compiled` takes a minute or more of compiling."""
WARM_UP = 3
COMPILING = 2 * FOLDS
"""Steps in which a compiled objective has met all its cases: `glassnet` trains one of its members at a time."""
LOCK = Path(tempfile.gettempdir()) / "glassmd-gpu-learners.lock"
"""Whoever prepares shares it, and whoever measures has it alone."""
MIB = 2**20


class Contestant:
    """Takes optimiser steps as a training does, on one device in one precision, with weights of its own.

    Args:
        trainer: Whose samples they are, on the CPU.
        where: The device, and what is special about it.
    """

    def __init__(self, trainer: Trainer, where: str) -> None:
        device, _, self.how = where.partition(" ")
        self.device = torch.device(device)
        self.model = deepcopy(trainer.model).to(device)
        stepping = replace(
            trainer._stepping(),
            device=self.device,
            precision="bf16-mixed" if "bfloat16" in self.how else "32-true",
        )
        parts = self.model.parts(trainer.taken, stepping)
        self.steps = next(part for part in parts if isinstance(part, Stepped))
        self.steps.step = 1  # weights and units are those of the trainer
        self.reservoir = trainer.reservoir

    def warm_up(self, limit: float) -> None:
        """Steps until all is allocated, or compiled, which may take so many seconds."""
        if "compiled" in self.how:
            torch._dynamo.config.recompile_limit = 64  # of all contestants together
            torch._dynamo.config.fail_on_recompile_limit_hit = True
            self.model.objective = torch.compile(self.model.objective, dynamic=True)  # type: ignore[method-assign]
        before = signal.signal(signal.SIGALRM, _too_long)
        signal.setitimer(signal.ITIMER_REAL, limit if "compiled" in self.how else 0)
        try:
            self.take(least=COMPILING if "compiled" in self.how else 1 if self.device.type == "cpu" else WARM_UP)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def take(self, seconds: float = 0.0, least: int = 1) -> float:
        """Steps for so long, so many at least; how many a second."""
        began, taken = time.perf_counter(), 0
        with self.precision():
            while taken < least or time.perf_counter() - began < seconds:
                loss = self.steps.advance(self.reservoir).loss
                taken += 1
            found = float(loss)  # waits for the device
        if not np.isfinite(found):
            raise RuntimeError(f"the loss is not finite after {self.steps.step} steps")
        return taken / (time.perf_counter() - began)

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Of matrix products outside of autocast."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if "tf32" in self.how else "highest")
        yield
        torch.set_float32_matmul_precision(before)

    @torch.no_grad()
    def first_loss(self, key: SampleKey) -> float:
        """Without dropout: the same number on every device, to rounding."""
        with self.precision():
            inputs = self.steps._on_device(self.steps._batch([key], 0, self.reservoir))
            self.model.eval()
            return float(self.steps._objective(inputs))


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError("it took too long to compile")


def prepared(path: Path, settings: TrainSettings, count: int, out: Path) -> tuple[Trainer, dict[str, Any]]:
    """A trainer on the CPU that has taken so many samples and a step, and what there is to know of it."""
    opened = open_run(path)
    structures = Structures([opened], started(settings, opened.identity["mixture"], len(opened.sample_times)).inputs)
    keys = sorted({sample.key for sample in opened.samples()})
    learned = {key.lineage for key in keys[:count]}
    others = {(key.run, key.lineage) for key in keys if key.lineage not in learned}
    source = SampleSource([opened], 0.0, held_out=others, requests=structures.requests)
    structures.make(keys, RunSettings())
    encodings = Encodings()
    trainer = Trainer(source, settings, out, structures=structures, encodings=encodings)
    trainer._look()
    trainer.reservoir.no_more()
    while trainer.step == 0:  # what is solved comes first, and the first step sets the unit of the output
        if trainer.fit.advance(trainer.reservoir, final=True) is None:
            raise RunError(f"found no samples in {path}", "at least one", "simulate or import some first")
    assert len(trainer.taken.blocks) == min(count, len(keys)), "a sample of each lineage"
    sample = trainer.taken.sample(min(trainer.taken.blocks))
    data = trainer.taken.encode(sample)
    tensors = [value for value in data.to_dict().values() if isinstance(value, torch.Tensor)]
    return trainer, {
        "parameters": trainer.model.n_parameters,
        "hyperparameters": trainer.model.hyperparameters(),
        "n_samples": len(trainer.taken.blocks),
        "n_particles": sample.parent.n_particles,
        "n_edges": data.num_edges,
        "encode_s": round(statistics.median(encodings.seconds.values()), 3),
        "encoded_MiB": round(sum(value.nbytes for value in tensors) / MIB, 1),
    }  # fmt: skip


def measure(path: Path, name: str, device: str, plan: dict[str, Any]) -> dict[str, Any]:
    """One learner on the CPU and, if asked for, on the other device."""
    torch.set_num_threads(plan["threads"])
    often = 10**9
    settings = TrainSettings(
        model=name, hyperparameters=HYPERPARAMETERS.get(name, {}), max_steps=often, validate_every=often,
        checkpoint_every=often, train_device="cpu",
    )  # fmt: skip
    contestants, losses, memory, failed = {}, {}, {}, {}
    held = LOCK.open("w")
    fcntl.flock(held, fcntl.LOCK_SH)
    with tempfile.TemporaryDirectory() as folder:
        trainer, facts = prepared(path, settings, plan["samples"], Path(folder))
    first = min(trainer.taken.blocks)
    for where in plan["variants"]:
        try:
            if where.startswith("cuda"):
                torch.cuda.init()
                torch.cuda.reset_peak_memory_stats()
            one = Contestant(trainer, where)
            losses[where] = one.first_loss(first)
            one.warm_up(plan["compile_limit"])
        except Exception as error:  # of torch, its compiler, or a network that cannot do it
            failed[where] = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            continue
        memory[where] = _peak(one.device.type)
        contestants[where] = one
    fcntl.flock(held, fcntl.LOCK_UN)
    fcntl.flock(held, fcntl.LOCK_EX)  # until the process ends
    rates = take_turns(
        {where: (lambda one=one: one.take(plan["seconds"])) for where, one in contestants.items()}, plan["rounds"]
    )
    suggested = resolved(TrainSettings(model=name))
    found: dict[str, Any] = {"learner": name, **facts, "batch_size": suggested.batch_size, "devices": {}}
    for where, one in contestants.items():
        step = 1 / statistics.median(rates[where])
        found["devices"][where] = {
            "name": torch.cuda.get_device_name() if one.device.type == "cuda" else cpu_name(),
            "first_loss": losses[where],
            "steps_per_second": rate(rates, where),
            "step_ms": round(1e3 * step, 2),
            **memory[where],
            "minutes_of_the_suggested_steps": round(step * suggested.max_steps / 60, 1),
        }
        plain = one.device.type if one.how else "cpu"
        if plain != where and plain in contestants:
            found["devices"][where]["compared_with"] = {
                "what": plain,
                "speed": ratio(rates, where, plain),
                "relative_difference_of_the_first_loss": abs(losses[where] / losses[plain] - 1),
            }
    if failed:
        found["failed_on"] = failed
    return found


def trained(path: Path, name: str, device: str, plan: dict[str, Any]) -> dict[str, Any]:
    """What `glassmd.train` says of a training on the device, encoding of the samples and validation included."""
    settings = TrainSettings(
        model=name,
        hyperparameters=HYPERPARAMETERS.get(name, {}),
        max_steps=plan["train_steps"],
        validate_every=max(1, plan["train_steps"] // 2),
        train_device="cuda" if device == "cuda" else "cpu",
        train_threads=plan["threads"],
    )
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        result = train([path], Path(folder), Settings(train=settings))
    keys = ("device", "steps", "best_step", "training_seconds", "validation", "cross_validated")
    return {**{key: result[key] for key in keys}, **_peak(device)}


def _peak(device: str) -> dict[str, int]:
    """Of this process so far, encoding included, or of what torch allocated on the GPU."""
    if device == "cuda":
        return {"peak_allocated_MiB": round(torch.cuda.max_memory_allocated() / MIB)}
    unit = 1 if sys.platform == "darwin" else 1024  # the system's unit of ru_maxrss
    return {"peak_of_the_process_MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB)}


def in_their_own_processes(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What :func:`measure` finds in processes that are given the same arguments, or how they failed."""
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for name in names:
            command = [sys.executable, "-W", "ignore", __file__, *sys.argv[1:], "--only", name]
            said = Path(folder) / name  # a pipe that nobody reads would hold up whoever holds the lock
            with said.with_suffix(".out").open("w") as out, said.with_suffix(".err").open("w") as problems:
                started.append((name, said, subprocess.Popen(command, stdout=out, stderr=problems)))
        while started:
            ended = next((one for one in started if one[2].poll() is not None), None)
            if ended is None:
                time.sleep(0.1)
                continue
            started.remove(ended)
            name, said, process = ended
            code = process.wait()
            print(f"{name}: {'measured' if code == 0 else 'failed'}", file=sys.stderr, flush=True)
            kind = ".err" if code else ".out"
            lines = said.with_suffix(kind).read_text(encoding="utf-8").strip().splitlines() or [f"exit code {code}"]
            yield {"learner": name, "failed": lines[-1]} if code else dict(json.loads(lines[-1]))


def main() -> None:
    parser = parser_of(__doc__, device=False)
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    parser.add_argument("--learners", default=",".join(LEARNERS))
    parser.add_argument("--samples", type=int, default=4, help="how many of the run's samples take turns")
    parser.add_argument("--rounds", type=int, help="default: 5, with --quick 1")
    parser.add_argument("--seconds", type=float, help="of a round and device; default: 10, with --quick 1")
    parser.add_argument(
        "--train-steps",
        type=int,
        help="of the real training, 0 for none; default: 300 on CUDA, none on the CPU; 4 with --quick",
    )
    parser.add_argument("--variants", help=f"where and how; default: cpu, on CUDA {','.join(VARIANTS)}")
    parser.add_argument("--compile-limit", type=float, default=300.0, help="seconds of each")
    parser.add_argument("--threads", type=int, default=available_cores(), help="of the CPU")
    parser.add_argument("--only", help="one learner, as JSON on the last line; what this script calls itself with")
    options = parser.parse_args()
    device = cuda_or_cpu(options.device)
    plan = {
        "samples": options.samples,
        "rounds": options.rounds or (1 if options.quick else 5),
        "seconds": options.seconds or (1.0 if options.quick else 10.0),
        "train_steps": options.train_steps,
        "threads": options.threads,
        "compile_limit": options.compile_limit,
        "variants": ["cpu"] if device == "cpu" else list(VARIANTS),
    }
    if options.variants is not None:
        plan["variants"] = [one.strip() for one in options.variants.split(",")]
    if options.train_steps is None:
        plan["train_steps"] = 4 if options.quick else 300 if device == "cuda" else 0
    if options.only:
        found = measure(options.run, options.only, device, plan)
        if plan["train_steps"]:
            found["training"] = trained(options.run, options.only, device, plan)
        print(json.dumps(found))
        return
    opened = open_run(options.run)  # a run that is none ends it here
    result = {
        "benchmark": "gpu_learners",
        "device": device,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "temperature": opened.identity["temperature"],
        "plan": plan,
        "learners": [],
    }
    for found in in_their_own_processes([name.strip() for name in options.learners.split(",")]):
        result["learners"].append(found)
        record(f"gpu_learners_{device}", result, folder_of(options), show=False)


if __name__ == "__main__":
    run(main)

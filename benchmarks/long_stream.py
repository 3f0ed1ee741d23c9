"""Memory and time per sample along a stream of small samples, for a learner that is solved, one that steps, and both.

    python benchmarks/long_stream.py [--samples 20000] [--learners ridge,bapst,glassnet] [--run FOLDER] [--out FOLDER]

The samples are random liquids of 60 particles in 2D with labels at two times, committed to a run as replicas of
simulations would be; thermal positions are described, so that no engine is needed. Each learner follows the run in a
fresh process and takes one step per sample where it steps. Memory for encodings is set to 1/32 GiB and the reservoir to
500 samples, which few samples fill. Memory is what the process holds, time that of the processor for a window of 100
samples or steps: medians of the last tenth are told beside those of the second to the tenth window, in which everything
is loaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from figures import axes_of, save
from record import RESULTS, record

from glassmd.configuration import Configuration
from glassmd.fields import GSD_PROPENSITY, GSD_PROPENSITY_VARIANCE
from glassmd.ledger.run import ParentKey, RunDirectory, SegmentKey
from glassmd.mixtures import get_mixture
from glassmd.trajectory import Frame

PARTICLES, TIMES, PARENTS = 60, [1.0, 10.0], 200
WINDOW = 100

FOLLOW = """
import json, resource, sys, time
from pathlib import Path
import torch
from glassmd.learners.fitting.fit import Fit
from glassmd.settings import Settings, TrainSettings
from glassmd.training.session import train

path, out, learner, samples, window = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:])
page, taken, taking, memory, steps, spent = resource.getpagesize(), 0, [], [], [], [0.0, 0.0]

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * page / 2**20

def timed(call, place, note):
    def measured(*arguments, **options):
        started = time.process_time()
        result = call(*arguments, **options)
        spent[place] += time.process_time() - started
        note(result)
        return result
    return measured

def took(result):
    global taken
    taken += 1
    if taken % window == 0:
        taking.append(spent[0] / window)
        memory.append(resident())
        spent[0] = 0.0

def stepped(result):
    if result is not None and result.loss is not None:
        steps.append(0)
        if len(steps) % window == 0:
            steps[-window:] = [spent[1] / window] * window
            spent[1] = 0.0

Fit.take, Fit.advance = timed(Fit.take, 0, took), timed(Fit.advance, 1, stepped)
settings = TrainSettings(
    model=learner, input=["thermal"], max_steps=samples, max_reuse=1.0, reservoir=500, memory=0.03125, train_threads=1,
    validation_share=0.0, checkpoint_every=1000, hyperparameters={"glassnet": {"width": 8, "n_layers": 1}, "bapst":
    {"width": 16, "n_steps": 2}}.get(learner, {}), train_device="cpu",
)
started = time.perf_counter()
result = train([path], out, Settings(train=settings), follow=True)
print(json.dumps({
    "seconds": time.perf_counter() - started, "samples": taken, "steps": result["steps"],
    "taking_ms": [1000 * s for s in taking], "step_ms": [1000 * s for s in steps[::window]],
    "memory_mb": memory, "memory_at_end_mb": resident(),
    "largest_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""


def liquids(path: Path, samples: int) -> None:
    """A run of so many samples; what is there already is kept."""
    mixture, generator = get_mixture("kob-andersen-2d"), np.random.default_rng(1)
    side = (PARTICLES / mixture.density) ** 0.5
    run = RunDirectory.create(
        path, mixture, temperature=0.8, times=TIMES, n_particles=PARTICLES, density=mixture.density, origin="benchmark"
    )
    sites = np.stack(np.meshgrid(*[np.arange(8)] * 2), -1).reshape(-1, 2)[:PARTICLES] * side / 8
    species = np.arange(PARTICLES) % 3 == 0
    for number in range(samples):
        lineage, parent = divmod(number, PARENTS)
        positions = sites + generator.normal(0, 0.06, (PARTICLES, 2))
        liquid = Configuration([side] * 2, species.astype(int), positions - side / 2)
        labels = 0.3 + np.abs(generator.normal(0, 0.05, (len(TIMES), PARTICLES)))
        log = {}
        for time, label in zip(TIMES, labels, strict=True):
            log[GSD_PROPENSITY.format(time=time)] = label.astype(np.float32)
            log[GSD_PROPENSITY_VARIANCE.format(time=time)] = (0.2 * label**2).astype(np.float32)
        frames = [Frame(liquid, 0, log)]
        facts = {"holds": "propensity", "times": TIMES, "n_replicas": 4, "replicas": [0, 1, 2, 3], "steps": 0}
        if parent == 0:
            run.commit(ParentKey(lineage, 0), [Frame(liquid, 0, {})], {"source": f"liquid {lineage}"})
        run.commit(SegmentKey(lineage, parent, 0), frames, {**facts, "engine": "none", "source": f"{number}"})


def follow(run: Path, out: Path, learner: str, samples: int) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    """What one learner took, with the ratios that matter, and the curves."""
    command = [sys.executable, "-c", FOLLOW, str(run), str(out), learner, str(samples), str(WINDOW)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    curves = {name: np.array(found.pop(name)) for name in ("memory_mb", "taking_ms", "step_ms")}
    memory, tenth = curves["memory_mb"], max(1, len(curves["memory_mb"]) // 10)
    told: dict[str, object] = {
        **found,
        "memory_mb_after": {
            str(WINDOW * (k + 1)): round(float(memory[k]), 1) for k in range(tenth - 1, len(memory), tenth)
        },
        "memory_growth_after_first_tenth_mb": float(memory[-1] - memory[tenth - 1]),
    }
    for name in ("taking_ms", "step_ms"):
        if len(curves[name]) > 1:
            early, late = (float(np.median(part)) for part in (curves[name][1:10], curves[name][-tenth:]))
            told[name] = {"early": early, "late": late, "ratio": late / early}
    return told, curves


def draw(curves: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """Memory and times along the stream."""
    figure, (memory, taking, step) = axes_of(3, width=3.0, height=2.6)
    for number, (learner, of) in enumerate(curves.items()):
        for axes, name in ((memory, "memory_mb"), (taking, "taking_ms"), (step, "step_ms")):
            if len(of[name]) > 1:
                axes.plot(WINDOW * (1 + np.arange(len(of[name]))), of[name], label=learner, lw=1, color=f"C{number}")
    for axes, title in ((memory, "memory, MB"), (taking, "taking a sample, CPU ms"), (step, "a step, CPU ms")):
        axes.set_title(title)
        axes.set_xlabel("samples" if axes is not step else "steps")
        axes.set_ylim(0, None)
    memory.legend()
    save(figure, path)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--learners", default="ridge,bapst,glassnet")
    parser.add_argument("--run", type=Path, help="where the samples are kept; a temporary folder by default")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run = arguments.run or Path(scratch) / "run"
        liquids(run, arguments.samples)
        found = {
            learner: follow(run, Path(scratch) / learner, learner, arguments.samples)
            for learner in arguments.learners.split(",")
        }
    figures = {learner: told for learner, (told, _) in found.items()}
    record("long_stream", {"window": WINDOW, "particles": PARTICLES, "learners": figures}, arguments.out)
    draw({learner: curves for learner, (_, curves) in found.items()}, arguments.out / "long_stream.png")


if __name__ == "__main__":
    main()

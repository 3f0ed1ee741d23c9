"""What a prediction takes of snapshots from 4096 to a million particles: CPU seconds and memory, one core.

The snapshots are copies of one configuration of BOTAN side by side, each particle moved by 0.01 σ. Models: `ridge` on
thermal positions, trained on six other configurations, and the published network of Bapst et al. Every size is
predicted in a process of its own by what `glassmd predict` calls, from file to file, checks of the snapshot and of what
the model knows included; the 4096 particles that it is compared with are predicted in the same process before and
after it, since other programs on the machine change how fast a core is.

python benchmarks/large_snapshots.py BOTAN_FOLDER WEIGHTS.npz [--sizes 2x2x2,3x3x3,4x4x5,6x6x7] [--memory 3] [--quick]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from command import folder_of, parser_of, run
from record import record

from glassmd.configuration import Configuration
from glassmd.trajectory import Frame
from glassmd.trajectory.writing import FrameWriter

BOX = 15.05658  # σ_AA, of BOTAN's configurations
GLASSMD = str(Path(sys.executable).parent / "glassmd")
ONE_CORE = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
SIZES = "2x2x2,3x3x3,4x4x5,6x6x7"


def tiled(source: Path, counts: tuple[int, ...], out: Path) -> int:
    """Write copies of a configuration side by side, each particle moved a little; returns how many particles."""
    with np.load(source) as file:
        positions, types = file["initial_positions"].astype(np.float64), file["types"].astype(np.int64)
    generator = np.random.default_rng(1)
    cells = np.stack(np.meshgrid(*(np.arange(count) for count in counts), indexing="ij"), -1).reshape(-1, 3)
    copies = (cells[:, None] * BOX + positions).reshape(-1, 3)
    copies += generator.normal(0, 0.01, copies.shape)
    box = BOX * np.array(counts, np.float64)
    whole = Configuration(box, np.tile(types - types.min(), len(cells)), copies - box / 2)
    with FrameWriter(out) as writer:
        writer.append(Frame(whole, 0, {}, None), None)
    return whole.n_particles


def measure(small: Path, snapshot: Path, model: Path, memory: float) -> dict[str, Any]:
    """Predict in this process: 4096 particles, the snapshot, 4096 particles again."""
    import resource

    from glassmd.prediction_files import predict_file

    def once(path: Path) -> tuple[float, dict[str, Any]]:
        start = time.process_time()
        out = path.with_suffix(".out.gsd")
        facts, _, _ = predict_file(path, model, out, temperature=0.44, force=True, memory=memory)
        return time.process_time() - start, facts

    once(small)  # libraries are loaded
    before = [once(small)[0] for _ in range(3)]
    cpu, facts = once(snapshot)
    after = [once(small)[0] for _ in range(3)]
    reference, own = statistics.median(before + after) / 4096, cpu / facts["n_particles"]
    return {
        "n_particles": facts["n_particles"],
        "parts": facts["parts"],
        "cpu_s": round(cpu, 2),
        "us_per_particle": round(own * 1e6, 1),
        "us_per_particle_of_4096": round(reference * 1e6, 1),
        "ratio": round(own / reference, 2),
        "max_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
    }


def in_fresh_process(*arguments: object) -> dict[str, Any]:
    """:func:`measure` in a new interpreter, whose peak of memory is this snapshot's."""
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    done = subprocess.run(command, env=ONE_CORE, check=True, capture_output=True, text=True)
    print(done.stdout.splitlines()[-1], file=sys.stderr, flush=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def models_of(botan: Path, weights: Path, folder: Path) -> dict[str, Path]:
    """The two models, made by the command line."""
    others = [str(botan / f"isoconfig_N4096T0.44_{k}_tc07.npz") for k in range(2, 8)]
    quiet: dict[str, Any] = {"env": ONE_CORE, "check": True, "stdout": subprocess.DEVNULL}
    run_, ridge, published = (folder / name for name in ("run", "ridge", "published"))
    subprocess.run([GLASSMD, "import", *others, "--out", str(run_), "--format", "botan"], **quiet)
    subprocess.run(
        [GLASSMD, "train", str(run_), "--out", str(ridge), "--model", "ridge", "--input", "thermal"], **quiet
    )
    subprocess.run([GLASSMD, "import", str(weights), "--out", str(published), "--format", "deepmind-weights"], **quiet)
    return {"ridge": ridge, "published network": published}


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        small, snapshot, model, memory = sys.argv[2:]
        print(json.dumps(measure(Path(small), Path(snapshot), Path(model), float(memory))))
        return
    parser = parser_of(__doc__, device=False)
    parser.add_argument("botan", type=Path, help="folder of BOTAN's configurations")
    parser.add_argument("weights", type=Path, help="the published network's weights, npz")
    parser.add_argument("--sizes", default=SIZES, help="copies along each axis")
    parser.add_argument("--memory", type=float, default=3.0, help="GiB, as of glassmd predict")
    options = parser.parse_args()
    sizes = "2x2x2" if options.quick else options.sizes
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        models = models_of(options.botan, options.weights, folder)
        source, small = options.botan / "isoconfig_N4096T0.44_1_tc07.npz", folder / "small.gsd"
        tiled(source, (1, 1, 1), small)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in models}
        for text in sizes.split(","):
            snapshot = folder / f"{text}.gsd"
            tiled(source, tuple(int(part) for part in text.split("x")), snapshot)
            for name, model in models.items():
                found[name].append(in_fresh_process(small, snapshot, model, options.memory))
            snapshot.unlink()
        record("large_snapshots", {"cores_used": 1, "memory_gib": options.memory, "models": found}, folder_of(options))


if __name__ == "__main__":
    run(main)

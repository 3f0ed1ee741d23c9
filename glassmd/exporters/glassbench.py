"""A run as GlassBench files, one for each parent: `T0.44/train/N4096T0.44_1.npz`.

The keys are those of the published files (:mod:`glassmd.importers.glassbench.labels`), and some that let a run come
back as it was: mixture, box, times, role, place in the run, and what is known of the labels' noise. Single replicas are
not written, but their mean and variance; of own cages the positions, not how particles shake in them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.exporters.place import new_folder
from glassmd.exporters.stored import bond_breaking_of, cage_name, labelled, structures_of
from glassmd.importers.glassbench.labels import STRUCTURES
from glassmd.ledger.run import ParentKey
from glassmd.mixtures import mixture_of
from glassmd.storage import write_bytes
from glassmd.stream.dataset import Run, open_run
from glassmd.stream.predictions import published_predictions
from glassmd.stream.samples import Sample

__all__ = ["export_glassbench"]

Arrays = dict[str, NDArray[Any]]


def export_glassbench(run: Path | str, out: Path | str) -> dict[str, Any]:
    """Write a run as GlassBench files, which `glassmd import --format glassbench` turns into the same samples.

    Args:
        run: Run directory.
        out: A new folder, which appears whole or not at all.

    Returns:
        What `glassmd export --json` prints.

    Raises:
        RunError: There is nothing to export, or `out` cannot be used.
        SegmentError: A file of the run is damaged.
        StorageError: The disk is full or not writable.
    """
    source, out = open_run(run), Path(out)
    cage = cage_name(source)
    held: set[str] = set()
    with new_folder(out) as folder:
        for number, (_, sample) in enumerate(labelled(source), 1):
            arrays = _arrays(source, sample, number, cage)
            held |= set(arrays)
            write_bytes(folder / _name(source, sample, number), _npz(arrays))
    return {
        "run": str(source.path),
        "format": "glassbench",
        "out": str(out),
        "files": number,
        "keys": sorted(held),
    }


def _name(run: Run, sample: Sample, number: int) -> Path:
    temperature = float(run.identity["temperature"])
    text = f"{temperature:.2f}" if float(f"{temperature:.2f}") == temperature else f"{temperature:.6g}"
    side = "test" if sample.role == "test" else "train"
    return Path(f"T{text}", side, f"N{sample.parent.n_particles}T{text}_{number}.npz")


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **dict(arrays))
    return content.getvalue()


def _arrays(run: Run, sample: Sample, number: int, cage: str | None) -> Arrays:
    parent = ParentKey(sample.key.lineage, sample.key.parent)
    arrays: Arrays = {
        "types": sample.parent.species.astype(np.int64),
        "initial_positions": sample.parent.positions,
        "md_prop": sample.propensity,
        "md_prop_variance": sample.variance,
        "n_replicas": np.array(sample.n_replicas if sample.replicas_known else 0),
        "times": np.array(run.times),
        "box": sample.parent.box,
        "mixture": np.array(json.dumps(mixture_of(run.identity["mixture"]).identity())),
        "role": np.array(sample.role or ""),
        "lineage": np.array(parent.lineage),
        "parent": np.array(parent.parent),
    }
    arrays |= {STRUCTURES[name]: at for name, at in structures_of(run, sample, parent, cage).items()}
    if (broken := bond_breaking_of(run, sample, parent)) is not None:
        arrays["bb_prop"] = broken
    return arrays | {
        method: values[str(sample.key)] for method, values in published_predictions([run], [sample]).items()
    }

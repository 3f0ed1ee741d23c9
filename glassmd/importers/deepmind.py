"""The data of Bapst et al., Nature Physics 16, 448 (2020): pickles of numpy arrays.

A file holds one configuration, its propensities (`targets`) at the times `time[time_indices]`, and for some of
these times the positions of the replicas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import FURTHEST, Configuration, minimum_image
from glassmd.errors import ImportDataError, InputError
from glassmd.importers.commit import commit_imported
from glassmd.importers.imported import Imported
from glassmd.importers.recognise import refuse_other_format
from glassmd.importers.restricted_pickle import load_numpy_pickle
from glassmd.ledger.run import RunDirectory
from glassmd.mixtures import get_mixture

__all__ = ["import_deepmind"]

FloatArray = NDArray[np.float64]


def _distances(positions: Any, parent: Configuration, complete: bool) -> FloatArray:
    """|Δr| of every replica, (n_replicas, n_particles); a cut of a configuration keeps the drift it came with."""
    ends = np.asarray(positions, np.float64)
    if ends.ndim != 3 or not len(ends) or ends.shape[1:] != parent.positions.shape:
        raise InputError(f"found replicas of shape {ends.shape}", f"(replicas, *{parent.positions.shape})")
    if not (np.abs(ends) <= FURTHEST * parent.box).all():
        raise InputError("found positions of replicas that are not finite or far outside", "positions near the box")
    moved = minimum_image(ends - parent.positions, parent.box)
    if complete:
        moved = moved - moved.mean(axis=1, keepdims=True)
    return np.asarray(np.linalg.norm(moved, axis=2))


def _read(path: Path, content: Any) -> Imported:
    try:
        parent = Configuration(content["box"], content["types"], content["positions"]).with_images_zero()
        if any(index < 0 for index in content["time_indices"]):
            raise InputError(f"found time_indices {list(content['time_indices'])}", "indices from 0 on")
        times = [float(content["time"][index]) for index in content["time_indices"]]
        replicas = content["trajectory_target_positions"]
        complete = abs(parent.density - 1.2) < 0.1
        moved = [_distances(positions, parent, complete) for positions in replicas]
        n_replicas = len(moved[0])
        labels = [np.asarray(t, np.float64) for t in content.get("targets", [m.mean(axis=0) for m in moved])]
        if len(labels) != len(times) or any(label.shape != (parent.n_particles,) for label in labels):
            raise ImportDataError(f"{path} has {len(labels)} targets", f"one per particle and time ({len(times)})")
        if not times or len(moved) > len(times) or {len(distances) for distances in moved} != {n_replicas}:
            raise InputError(
                f"found {[len(distances) for distances in moved]} replicas at {len(times)} times",
                "as many at every time, and some",
            )
    except ImportDataError:
        raise
    except InputError as error:
        raise ImportDataError(f"{path}: {error.found}", error.expected) from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ImportDataError(
            f"{path} is not a file of this data set ({error!r})", "box, types, positions, time…"
        ) from error
    order = np.argsort(times)
    variance = np.full((len(times), parent.n_particles), np.nan)
    for index, distances in enumerate(moved):
        if n_replicas > 1 and np.allclose(
            distances.mean(axis=0), labels[index], atol=1e-6
        ):  # these replicas made this label
            variance[index] = distances.var(axis=0, ddof=1)
    return Imported(
        parent,
        [times[index] for index in order],
        path.name,
        n_replicas,
        propensity=np.stack([labels[index] for index in order]),
        variance=variance[order],
    )


def import_deepmind(sources: Sequence[Path], out: Path, *, truncation: str = "truncated") -> RunDirectory:
    """Import pickles of Bapst et al. as a run with one parent per lineage.

    Args:
        sources: Files or folders of `.pickle` files.
        out: Run directory.
        truncation: Of the potential; `truncated` is what later evaluations of these data assume.

    Raises:
        ImportDataError: A file that is damaged, or holds anything but numpy arrays and plain values.
    """
    files = [p for source in sources for p in (sorted(source.glob("*.pickle")) if source.is_dir() else [source])]
    for path in files or sources:
        refuse_other_format(path, "deepmind")
    if not files:
        raise ImportDataError(f"found no .pickle files in {', '.join(map(str, sources))}", "at least one")
    contents = [(path, load_numpy_pickle(path)) for path in files]
    temperatures = set()
    for path, content in contents:
        try:
            temperatures.add(float(content["metadata"]["temperature"]))
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            raise ImportDataError(f"{path} has no metadata.temperature", "a file of this data set") from error
    if len(temperatures) > 1:
        raise ImportDataError(f"found temperatures {sorted(temperatures)}", "one", "import them one by one")

    def items() -> Iterator[Imported]:
        for path, content in contents:
            yield _read(path, content)

    return commit_imported(items(), out, get_mixture("kob-andersen", truncation), temperatures.pop(), "deepmind")

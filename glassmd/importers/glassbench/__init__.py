"""GlassBench: configurations, structures, labels and predictions of the roadmap on machine learning of glassy liquids.

G. Jung et al., arXiv:2311.14752; Zenodo 10118191, CC-BY-4.0. Files are of two kinds:

==========================================  ==========================================================================
`N4096T0.44_17.npz` (`KA_models`)           labels at all times, inherent structure, cages of some configurations, and
                                            in test files what published methods predict
`N1290T0.23_17_tc05.npz`                    end positions of 20 replicas at one time; all codes of a configuration make
(`KA2D_trajectories`)                       one parent with several times
==========================================  ==========================================================================

Two files of the second kind were at hand. The reader of the first kind was written after descriptions of it, and has
never seen an original file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from glassmd.importers.commit import commit_imported
from glassmd.importers.glassbench.files import find_sources, times_of_codes
from glassmd.importers.glassbench.labels import read_labels
from glassmd.importers.glassbench.liquid import liquid_of
from glassmd.importers.glassbench.replicas import read_replicas
from glassmd.importers.imported import Imported
from glassmd.ledger.run import RunDirectory

__all__ = ["import_glassbench"]


def import_glassbench(
    sources: Sequence[Path], out: Path, *, truncation: str | None = None, times: Sequence[float] | None = None
) -> RunDirectory:
    """Import GlassBench files as a run, a lineage for each configuration.

    Configurations for testing have that role; of those for training whoever trains takes some for validation.

    Args:
        sources: Files or folders of them, of one kind and temperature.
        out: Run directory.
        truncation: Of the potential. What the files say by default, else `force-shifted`: the three-dimensional
            configurations are those of the BOTAN data, and at the energy minimum of the two-dimensional one at hand it
            leaves the smallest forces (0.060 in the mean; `shifted` 0.109, `truncated` 0.099, `xplor` 0.119; 0.037 with
            the second derivative going to zero as well, which no mixture here has).
        times: Output times where neither the files nor their names tell, √(mσ²/ε).

    Raises:
        ImportDataError: A file that is not what its name says, or files that do not belong together.
    """
    files = find_sources(sources)
    first = files[0]
    liquid = liquid_of(first, truncation)

    def items() -> Iterator[Imported]:
        if first.code is None:
            for source in files:
                yield read_labels(source, liquid, times)
            return
        by_code = times_of_codes(files, times)
        for _, group in groupby(files, key=lambda source: source.configuration):
            yield read_replicas(list(group), liquid, by_code)

    return commit_imported(items(), out, liquid, first.temperature, "glassbench")

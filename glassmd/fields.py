"""Names, shapes and units of everything glassmd writes into files and graphs.

One constant per field, with its meaning on the line above it.
"""

from __future__ import annotations

from typing import Final, Literal

from glassmd.target import Target

# of run directories, bumped when yesterday's program cannot read what is written today; in 1 nothing but GSD files was
# protected by checksums, and runs of both are read and continued
RUN_SCHEMA_VERSION: Final = 2

# GSD log chunk, (n_bytes,) uint8: UTF-8 JSON of Mixture.identity() and the temperature, in frame 0
GSD_IDENTITY: Final = "glassmd/identity"
# GSD log chunk, (1,) int64: number of the replica a frame belongs to; -1 in frame 0, the parent, or absent from it
# in files of earlier versions and where no frame is a replica's
GSD_REPLICA: Final = "glassmd/replica"
# GSD log chunk, (1,) float64: time since the parent, √(mσ²/ε); 0 in frame 0, or absent as the replica is
GSD_TIME: Final = "glassmd/time"
# GSD log chunk, (n_particles,) float32: propensity ⟨|Δr|⟩ at the time in the name, σ_AA
GSD_PROPENSITY: Final = "particles/propensity_t{time:g}"
# GSD log chunk, (n_particles,) float32: unbiased variance of |Δr| between the replicas of the propensity above, σ_AA²
GSD_PROPENSITY_VARIANCE: Final = "particles/propensity_t{time:g}_variance"
# GSD log chunks by target, (n_particles,) float32: the propensity, and ⟨|Δr|²⟩, σ_AA²; the mean fraction of the initial
# neighbours that are still neighbours; the displacement against the initial neighbours', σ_AA; see `label_chunk`
GSD_LABEL: Final[dict[Target, str]] = {
    "propensity": GSD_PROPENSITY,
    "squared-displacement": "particles/squared_displacement_t{time:g}",
    "bond-breaking": "particles/bond_breaking_t{time:g}",
    "cage-relative": "particles/cage_relative_t{time:g}",
}


def label_chunk(target: Target, time: float, kind: Literal["", "variance", "std"] = "") -> str:
    """Name of the GSD log chunk of labels or predictions at a time.

    Args:
        target: Of what.
        time: √(mσ²/ε).
        kind: Nothing for the mean over replicas, or what is predicted of it; `variance`, unbiased and between replicas,
            of labels; `std`, standard deviation, of predictions.

    Example:
        >>> label_chunk("propensity", 0.5), label_chunk("bond-breaking", 0.5, "std")
        ('particles/propensity_t0.5', 'particles/bond_breaking_t0.5_std')
    """
    return GSD_LABEL[target].format(time=time) + (f"_{kind}" if kind else "")


# GSD log chunk of a parent, (n_particles,) float32: what a published method predicts for it, in the method's own unit
GSD_PUBLISHED: Final = "particles/published_{method}_t{time:g}"

# what lineages are for, by the number that stands for it in columns of text
ROLES: Final = (None, "train", "validation", "test")

# graph, (n_particles, 1) float32: species index as the published network takes it
NODE_INPUT: Final = "x"
# graph, (n_particles,) int64: species index
NODE_SPECIES: Final = "species"
# graph, (n_particles, n_features) float32: descriptors of the particle
NODE_FEATURES: Final = "features"
# graph, (2, n_edges) int64: sender in row 0, receiver in row 1, sorted by receiver
EDGE_INDEX: Final = "edge_index"
# graph, (n_edges, d) float32: minimum-image r_receiver − r_sender, σ_AA
EDGE_VECTOR: Final = "edge_attr"

"""Names, shapes and units of everything glassmd writes into files and graphs.

One constant per field, with its meaning on the line above it.
"""

from __future__ import annotations

from typing import Final

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
# GSD log chunk, (n_particles,) float32: mean share of the first neighbours that are neighbours at the time in the name
GSD_BOND_BREAKING: Final = "particles/bond_breaking_t{time:g}"
# GSD log chunk of a parent, (n_particles,) float32: what a published method predicts for it, in the method's own unit
GSD_PUBLISHED: Final = "particles/published_{method}_t{time:g}"
# GSD log chunk, (n_particles,) float32: standard deviation of the prediction above, σ_AA
GSD_PROPENSITY_STD: Final = "particles/propensity_t{time:g}_std"
# the two of a prediction whose times are in units of τ_α
GSD_PROPENSITY_TAU_ALPHA: Final = "particles/propensity_t{time:g}tau_alpha"
GSD_PROPENSITY_TAU_ALPHA_STD: Final = "particles/propensity_t{time:g}tau_alpha_std"

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

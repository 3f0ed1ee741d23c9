"""What is predicted of a particle: the propensity, or another average over replicas of how it has moved.

The definitions are those of :mod:`glassmd.stream.reduction`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

__all__ = ["BOND_BREAKING", "CAGE_RELATIVE", "PROPENSITY", "SQUARED_DISPLACEMENT", "TARGETS", "Target", "quantity"]

Target = Literal["propensity", "squared-displacement", "bond-breaking", "cage-relative"]
PROPENSITY: Final = "propensity"
SQUARED_DISPLACEMENT: Final = "squared-displacement"
BOND_BREAKING: Final = "bond-breaking"
CAGE_RELATIVE: Final = "cage-relative"
TARGETS: Final[tuple[Target, ...]] = get_args(Target)


@dataclass(frozen=True)
class Quantity:
    """A target as physics and figures have it.

    Attributes:
        symbol: Formula, for people.
        unit: Of its values; `fraction` where they have none.
        axis: Label of an axis or a colour bar.
        square: What its square is divided by in headings.
        least_unit: Smallest unit that labels are learned in, in their own: labels that hardly vary in the first samples
            of a stream may vary in those that follow.
        scales: Whether replicas of a particle that moves twice as far differ twice as much, so that the distributions
            of all particles differ, roughly, in their scale alone.
    """

    symbol: str
    unit: str
    axis: str
    square: str
    least_unit: float
    scales: bool


_QUANTITIES: dict[Target, Quantity] = {
    "propensity": Quantity("⟨|Δr|⟩", "σ_AA", "propensity ⟨|Δr|⟩ / σ", " / σ²", 1e-6, True),
    "squared-displacement": Quantity("⟨|Δr|²⟩", "σ_AA²", "squared displacement ⟨|Δr|²⟩ / σ²", " / σ⁴", 1e-6, True),
    # one of thirteen neighbours lost in one of eight replicas
    "bond-breaking": Quantity("⟨n(t)/n(0)⟩", "fraction", "fraction of neighbours kept", "", 0.01, False),
    "cage-relative": Quantity("⟨|Δr − Δr of the cage|⟩", "σ_AA", "cage-relative ⟨|Δr|⟩ / σ", " / σ²", 1e-6, True),
}


def quantity(target: Target) -> Quantity:
    """What a target is.

    Example:
        >>> quantity("squared-displacement").unit
        'σ_AA²'
    """
    return _QUANTITIES[target]

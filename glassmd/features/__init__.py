"""What describes a particle's surroundings: structure functions, local physics, and their averages."""

from glassmd.features.displacement import displacement_features
from glassmd.features.recipe import RECIPES, Recipe, begun, describe, thermal_base
from glassmd.features.recursion import coarse_grain

__all__ = ["RECIPES", "Recipe", "begun", "coarse_grain", "describe", "displacement_features", "thermal_base"]

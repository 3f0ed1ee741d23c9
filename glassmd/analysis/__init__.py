"""What a liquid does: dynamics, spatial correlations, hops, crystallinity."""

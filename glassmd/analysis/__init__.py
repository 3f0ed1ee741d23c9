"""What a liquid does: dynamics, spatial correlations, crystallinity."""

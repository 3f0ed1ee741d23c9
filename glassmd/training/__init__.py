"""Training, offline or while the simulations run."""

"""What is measured on runs and trajectories: `glassmd analyze`."""

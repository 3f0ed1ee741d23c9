"""Models: what a training leaves behind, and what it says about itself."""

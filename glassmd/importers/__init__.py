"""Published data and weights as run and model directories."""

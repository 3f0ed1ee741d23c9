"""Training on a Ray cluster: trainers anywhere, the model and the data where whoever asked is."""

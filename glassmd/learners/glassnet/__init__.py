"""The default learner, a composition of a solved and a stepped part."""

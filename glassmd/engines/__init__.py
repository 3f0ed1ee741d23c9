"""Simulation engines behind one interface."""

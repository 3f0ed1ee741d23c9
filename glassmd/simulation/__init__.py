"""Equilibration and the isoconfigurational protocol, in one process or many."""

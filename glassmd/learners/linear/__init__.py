"""Learners that are solved from sums over particles."""

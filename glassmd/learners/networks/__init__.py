"""Learners that take optimiser steps."""

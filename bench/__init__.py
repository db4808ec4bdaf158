"""Measure the figures that the project promises. Nothing here asserts a time: machines differ and are shared."""

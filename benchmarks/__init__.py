"""Measurements of dcharge. `python -m benchmarks` runs them all; every figure stands beside a named peer."""

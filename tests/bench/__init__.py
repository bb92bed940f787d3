"""Benchmarks: speed as ratios measured in one run. ``python -m tests.bench`` prints them all."""

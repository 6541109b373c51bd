"""Measurements. Their results, with hardware and versions, are in bench/results/."""

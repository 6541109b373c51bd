"""Fault injection: real sweeps that are killed, starved and damaged, and whether they end as if they had not been."""

"""A trial's settings, the network they make, and the hyperparameters of a group."""

"""The staged search over the core's trainer: experiment files, plans, Optuna studies and tracked runs."""

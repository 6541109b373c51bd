"""What a sweep writes: Optuna's journal, MLflow's runs, the files of trials."""

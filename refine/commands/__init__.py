"""One small file per command: compose, instantiate, run. Each has ``run(overrides) -> exit status``."""

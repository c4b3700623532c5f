"""Console, experiment loggers and what they are told."""

"""The commands: compose the configuration, call, return the exit status."""

"""The processes of one run: strategy, coordination, partition of the images."""

"""A data set folder, its annotations and its videos, to batches."""

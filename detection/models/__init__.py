"""Networks and their weights: built from numbers, they know no configuration."""

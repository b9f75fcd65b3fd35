"""From a weights file, whoever wrote it, to a network, and back."""

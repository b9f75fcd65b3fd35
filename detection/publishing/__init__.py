"""A model as a folder that others can use: what goes into it, and its card."""

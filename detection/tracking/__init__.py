"""Boxes linked over time, and action scores along them."""

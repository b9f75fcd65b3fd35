"""Stepwise expansion: the X3D paper's search for a network (section 3.2)."""

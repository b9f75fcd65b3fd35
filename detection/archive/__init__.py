"""Thousands of videos: which they are, the work on them, one table at the end."""

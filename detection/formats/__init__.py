"""File forms read safely and strictly; nothing here knows what the values mean."""

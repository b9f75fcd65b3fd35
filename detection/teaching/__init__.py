"""Teaching from a label page: features that stay, a fit in seconds, what to label next."""

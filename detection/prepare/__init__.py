"""Source videos into the form that is quick to read, and what they contain."""

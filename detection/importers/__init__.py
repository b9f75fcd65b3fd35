"""Other projects' annotations into a data set folder, one file a format."""

"""What is wrong or odd about a data set, row by row."""

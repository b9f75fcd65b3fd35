"""Video files, streams and frame folders read by presentation time. The only importers of av."""

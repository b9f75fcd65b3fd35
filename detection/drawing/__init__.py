"""Drawing of boxes, labels and timelines on frames."""

"""The review page: shows labels and predictions in videos, takes corrections (docs/review.md)."""

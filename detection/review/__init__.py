"""A page that shows what was found in videos and takes corrections: `docs/review.md`."""

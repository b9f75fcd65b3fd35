"""Networks as programs of other runtimes, with what they were made from and how near they are."""

"""What training asks of a task, and the tasks there are."""

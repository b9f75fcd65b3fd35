"""The same work on many pieces: in this process, in several ones, or on Ray."""

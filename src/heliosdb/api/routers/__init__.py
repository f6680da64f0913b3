"""One file a resource: each has a `router`, whose paths say what right they need."""

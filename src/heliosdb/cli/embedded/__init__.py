"""The embedded default: every part of the product on one machine, on private clusters, from one command."""

"""Plausible sites and servers from wheels, so that a bare machine can run the whole service."""

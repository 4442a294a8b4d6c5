"""Observers of committed batches: presence now, alert rules next."""

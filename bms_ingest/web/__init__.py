"""The HTTP server: metrics, health and readiness."""

"""Servers, schedules and deployments."""

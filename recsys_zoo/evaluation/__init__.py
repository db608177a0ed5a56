"""Protocols of evaluation."""

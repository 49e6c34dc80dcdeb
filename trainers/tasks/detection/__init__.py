"""Detectors on any architecture."""

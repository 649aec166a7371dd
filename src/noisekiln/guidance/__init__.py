"""Guidance: follows the condition more strongly by comparing two estimates."""

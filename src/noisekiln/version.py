"""The version of noisekiln (semantic versioning); packaging reads it from here."""

VERSION = "0.1.0"

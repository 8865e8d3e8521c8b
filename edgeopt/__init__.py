"""edgeopt: from a trained transformer to a checked, measured bundle on a small device."""

__version__ = "0.1.0"

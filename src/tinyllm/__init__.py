"""tinyllm: make a small language model of your own."""

__version__ = "0.1.0"

"""Big files from a notebook to providers that take them in parts."""

__version__ = "0.1.0"

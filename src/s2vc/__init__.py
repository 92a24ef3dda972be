"""s2vc, a learned video codec."""

__version__ = "0.1.0.dev0"

"""How should RR-interval rhythm be fused with beat morphology? The study tool."""

__version__ = "0.1.0"

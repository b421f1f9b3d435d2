"""From a multi-centre BIDS dataset of people with ALS to motor-system measures."""

__version__ = "0.1.0"

"""A rate limiter for Base04, built on the limits library."""

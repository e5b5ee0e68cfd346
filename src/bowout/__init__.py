"""TLS connections that end well."""

__version__ = "0.1.0"

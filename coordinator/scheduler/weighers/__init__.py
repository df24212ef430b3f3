"""What makes one host better than another, one idea a file; `pipeline.WEIGHERS` puts them together."""

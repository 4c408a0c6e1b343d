"""Fixtures that every test may ask for; the parts of a package's own tests live in its folder."""

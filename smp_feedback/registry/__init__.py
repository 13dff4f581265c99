"""Names for things: registries, the catalogue of all of them, and the plugins that fill it."""

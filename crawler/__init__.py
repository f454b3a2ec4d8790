"""A source -> unique, decodable, permitted candidate images with their provenance."""

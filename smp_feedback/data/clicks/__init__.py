"""A person's clicks on an image: what they look like to a model, who makes them up, and what they are about."""

"""Hot air: the model, its discretisation, fields, images."""

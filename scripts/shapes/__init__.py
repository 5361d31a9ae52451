"""The bundled model: its images, its training, and how well maps locate objects."""

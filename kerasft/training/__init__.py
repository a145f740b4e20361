"""Level 8: the recipe and what runs it. Importing this loads neither Keras nor TensorFlow."""

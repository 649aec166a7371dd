"""Training of an autoencoder as a codec: its losses, and the module that is trained."""

"""What conditioners know of language: words, their letters, prompts, captions, and pretrained encoders."""

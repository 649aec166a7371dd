"""Sessions: from options to images on disk, for the command line, a page and Python alike."""

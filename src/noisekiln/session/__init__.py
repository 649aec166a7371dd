"""Sessions: from options to pictures on disk, for the command line, a page and Python alike."""

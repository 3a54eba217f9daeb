"""Scripts by which shells complete the command line, made of its parser."""

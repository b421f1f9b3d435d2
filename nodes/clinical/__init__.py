"""Clinical scores from the items of one person and visit."""

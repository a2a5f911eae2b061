"""What a person sees: the magic, the live view, the panel, the bars."""

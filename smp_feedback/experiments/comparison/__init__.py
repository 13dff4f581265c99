"""Does feedback help on these images? A feedback model beside its twins."""

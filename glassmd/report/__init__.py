"""Tables, figures and progress for people to look at."""

"""How learners learn: what they take, what they do next, and what a checkpoint needs of them."""

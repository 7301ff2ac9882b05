"""Published systems as recipes: trained here, their figures beside ours, and what does not hold of theirs."""

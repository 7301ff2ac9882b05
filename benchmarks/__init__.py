"""Speed against the usual ways of doing the same work. `make bench` runs everything; each module also runs alone."""

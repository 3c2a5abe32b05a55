"""What `make bench` runs: Florin against bare functions and against others, as ratios."""

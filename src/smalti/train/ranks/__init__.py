"""One network trained by several processes, each on a share of the images of every step."""
